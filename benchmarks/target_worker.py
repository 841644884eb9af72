"""Compiles one program for a chip that is not at hand, and prints its facts as JSON.

    python -m benchmarks.target_worker WORK CHIP PROGRAM COUNT TOP

The textbook is a plain Flax net in a scan of rematerialised steps of SGD, which
`jax.grad` differentiates. Without recomputing its steps, it would move more bytes.
"""

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import metajax as mj
from benchmarks.errors import Parser, exit_status
from benchmarks.workloads import (
    OUTER_RATE,
    POINTS,
    QUERIES,
    SHOTS,
    WAYS,
    Workload,
    workload,
)
from metajax.data.sampling import StagedSampler
from metajax.errors import InputError
from metajax.targets import compile_for, devices
from metajax.types import Learner, Loss, Model, Params, Sampler


class Conv4(nn.Module):
    """Four blocks of Flax's layers and a head."""

    filters: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        for _ in range(4):
            x = nn.Conv(self.filters, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(WAYS)(x.reshape(len(x), -1))


class Mlp(nn.Module):
    """Three dense layers of Flax."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Values."""
        for _ in range(2):
            x = nn.relu(nn.Dense(40)(x))
        return nn.Dense(1)(x)


def textbook_model(work: Workload) -> Model:
    """The plain net of a workload."""
    if work.family.image is None:
        return mj.from_linen(Mlp(), jnp.zeros((1, 1)))
    return mj.from_linen(Conv4(work.family.filters), jnp.zeros((1, *work.family.image)))


def our_model(work: Workload) -> Model:
    """Ours of a workload."""
    if work.family.image is None:
        return mj.mlp(1, (40, 40), 1)
    return mj.conv4(WAYS, work.family.filters, "max", image_shape=work.family.image)


def textbook(model: Model, loss: Loss, rate: float, steps: int) -> Learner:
    """MAML by `jax.grad` of a scan of rematerialised steps."""

    def value(params: Params, batch: mj.Batch) -> jax.Array:
        return loss(model.apply(params, batch.inputs), batch.targets)

    def adapt(params: Params, support: mj.Batch) -> Params:
        def step(params: Params, _: None) -> tuple[Params, None]:
            grads = jax.grad(value)(params, support)
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), None

        step = jax.checkpoint(step, prevent_cse=False)
        return jax.lax.scan(step, params, length=steps)[0]

    def outer(params: Params, episode: mj.Episode) -> tuple[jax.Array, dict]:
        return value(adapt(params, episode.support), episode.query), {}

    def trajectory(params: Params, support: mj.Batch) -> Params:
        raise NotImplementedError("the textbook is only trained")

    return Learner(model.init, adapt, model.apply, outer, trajectory)


@dataclass(frozen=True)
class Noise(StagedSampler):
    """Episodes of noise, each of a key of its own, as `metajax.data` makes its own."""

    image: tuple[int, int, int]

    def make_task(self, key: jax.Array) -> mj.Episode:
        """Makes an episode of a key."""

        def batch(key: jax.Array, examples: int) -> mj.Batch:
            inputs = jax.random.normal(key, (examples, *self.image))
            return mj.Batch(inputs, jnp.arange(examples, dtype=jnp.int32) % WAYS)

        keys = jax.random.split(key)
        return mj.Episode(batch(keys[0], WAYS * SHOTS), batch(keys[1], WAYS * QUERIES))


def sampler(work: Workload) -> Sampler:
    """Episodes of its shapes."""
    if work.family.image is None:
        return mj.data.sinusoid(POINTS, POINTS)
    return Noise(work.family.image)


def build(program: str, work: Workload) -> Learner:
    """The learner of a program."""
    kind, _, how = program.partition(", ")
    loss = mj.mse if work.family.image is None else mj.cross_entropy
    rate = work.family.inner_rate
    if kind == "textbook":
        return textbook(textbook_model(work), loss, rate, work.steps)
    model = our_model(work)
    if how in ("tensorfloat32", "bfloat16"):
        model = mj.in_precision(model, how)
    grad = mj.reverse if how == "reverse" else mj.exact
    return mj.maml(model, loss, optax.sgd(rate), work.steps, grad=grad)


def facts(work: Workload, chip: str, program: str, count: int, top: int) -> Any:
    """What the compiler makes of a program, as plain values."""
    absent = devices(chip)
    if count > len(absent):
        raise InputError(f"{chip} has {len(absent)} devices, {count} are asked for")
    learner, outer = build(program, work), optax.adam(OUTER_RATE)
    state = jax.eval_shape(lambda: mj.init_state(learner, outer, jax.random.key(0)))
    episodes = jax.eval_shape(lambda: sampler(work)(jax.random.key(0), work.tasks))
    step = mj.train_step(learner, outer, tasks_per_chunk=None, devices=absent[:count])
    highest = program.endswith("highest")
    with (
        jax.default_matmul_precision("highest") if highest else contextlib.nullcontext()
    ):
        compiled = compile_for(absent[:count], step, state, episodes)
    return {
        "cycles": compiled.program.cycles or None,
        "bytes": compiled.program.bytes,
        "account_bytes": compiled.account_bytes,
        "launches": compiled.program.launches,
        "temporary_bytes": compiled.temporary_bytes,
        "argument_bytes": compiled.argument_bytes,
        "operations": compiled.operations,
        "lower_s": compiled.lower_seconds,
        "compile_s": compiled.compile_seconds,
        "collectives": compiled.program.collectives,
        "dearest": [each._asdict() for each in compiled.program.dearest(top)],
    }


def main() -> None:
    """Prints the facts."""
    parser = Parser("python -m benchmarks.target_worker", __doc__)
    for name, kind in zip(facts.__annotations__, (workload, str, str, int, int)):
        parser.add_argument(name, type=kind)
    print(json.dumps(facts(**vars(parser.parse_args()))))


if __name__ == "__main__":
    sys.exit(exit_status(main, (InputError,)))
