"""MAML on the half-cheetah: an example to copy."""

from dataclasses import dataclass

import jax
import optax

import metajax as mj
from benchmarks.rl import cheetah
from benchmarks.rl.settings import Cheetah
from metajax import rl

ADAM = optax.adam(1e-3)  # the outer optimizer


@dataclass(frozen=True)
class Returns:
    """A row of the table: mean returns of a meta-step, before adaptation and after."""

    step: int
    before: float
    after: float


def print_returns(settings: Cheetah) -> dict[str, list[Returns]]:
    """Meta-trains for a few steps, and prints the returns of each.

    Returns:
      The rows, by the title of the table.

    Raises:
      InputError: if MJX is not installed.
    """
    environment = cheetah.half_cheetah(settings.task, settings.horizon)
    head, width = rl.head_for(environment), settings.width
    network = mj.mlp(environment.observation_size, (width, width), head.inputs)
    sampling = rl.sampling(
        environment, rl.feedforward(network, head), trajectories=settings.trajectories
    )
    learner = mj.maml_rl(sampling, optax.sgd(settings.inner_rate), steps=1)
    step, sampler = mj.train_step(learner, ADAM), rl.trials(environment)
    first, *keys = jax.random.split(jax.random.key(settings.seed), settings.steps + 1)
    state = mj.init_state(learner, ADAM, first)
    title = f"Half-cheetah, {settings.task}: mean return"
    print(f"**{title}**\n\n| meta-step | before adaptation | after |\n|---|---|---|")
    rows: list[Returns] = []
    for number, key in enumerate(keys, 1):
        state, metrics = step(state, sampler(key, settings.tasks))
        row = Returns(number, float(metrics["before"]), float(metrics["return"]))
        print(f"| {row.step} | {row.before:.2f} | {row.after:.2f} |", flush=True)
        rows.append(row)
    return {title: rows}
