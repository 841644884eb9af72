"""The time of a meta-step on 2D navigation, metajax's and PyTorch's in turns."""

import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.rl.navigation import (
    DISCOUNT,
    OUTER_RATE,
    flat,
    gradient_and_noise,
    make_work,
)
from benchmarks.rl.settings import Navigation
from benchmarks.timing import timed
from metajax.errors import InputError
from metajax.training import init_state, train_step

CHECKED_TASKS = 3  # in float64
AGREED = 1e-8  # the largest relative distance of two gradients that are the same
PAUSE = 0.3  # seconds: threads of the other library stop spinning
FORMS = {
    "loop": "PyTorch, a loop over tasks",
    "gym": "PyTorch, a loop over tasks, environments one by one",
    "batched": "PyTorch, all tasks by batched products",
}


@dataclass(frozen=True)
class Timed:
    """A row of the table.

    Attributes:
      name: of who computes the meta-step.
      distance: relative, of its float64 meta-gradient to metajax's.
      threads: how many it had; the best of those tried, of PyTorch.
      first: seconds of the first meta-step; it compiles, of metajax.
      steps: seconds of each timed meta-step.
    """

    name: str
    distance: float
    threads: int
    first: float
    steps: tuple[float, ...] = ()


def print_times(settings: Navigation) -> dict[str, list[Timed]]:
    """Checks the gradients, times the meta-steps in turns, and prints the table.

    Returns:
      The rows, by the title of the table.

    Raises:
      InputError: if PyTorch is not installed.
      ArithmeticError: if the gradients differ.
    """
    if not importlib.util.find_spec("torch"):
        raise InputError("torch is not installed; pip install torch")
    away = distances(settings)
    if wrong := [form for form, x in away.items() if not x < AGREED]:
        raise ArithmeticError(f"other gradients than metajax's: {', '.join(wrong)}")
    steps: dict[str, Callable[[], Any]] = {}
    rows: dict[str, Timed] = {}
    steps["metajax"] = _metajax_step(settings)
    cores = os.cpu_count() or 1
    rows["metajax"] = Timed("metajax", 0.0, cores, timed(steps["metajax"]))
    for form, name in FORMS.items():
        steps[form], threads, first = _torch_step(settings, form)
        rows[form] = Timed(name, away[form], threads, first)
    for _ in range(settings.rounds):
        for key, step in steps.items():
            time.sleep(PAUSE)
            rows[key] = replace(rows[key], steps=(*rows[key].steps, timed(step)))
    title = (
        f"2D navigation, {settings.tasks} tasks, {settings.trajectories} trajectories "
        f"of {settings.horizon} steps, MLP {settings.width}-{settings.width}: a "
        "meta-step in float32"
    )
    print(markdown(title, list(rows.values())))
    return {title: list(rows.values())}


def distances(settings: Navigation) -> dict[str, float]:
    """How far PyTorch's float64 meta-gradients are from metajax's, of few tasks.

    All have the same parameters, goals and noise.
    """
    few = replace(settings, tasks=min(CHECKED_TASKS, settings.tasks))
    with jax.enable_x64(True):
        work = make_work(few, jnp.float64)
        key = jax.random.key(few.seed + 1)
        truth, goals, noise = gradient_and_noise(work, key, few.tasks)
        start = flat(work.meta)
    vector = np.concatenate([x.ravel() for x in truth])

    def distance(form: str) -> float:
        found = _torch_run(few, start, form).gradient(goals, noise)
        other = np.concatenate([x.ravel() for x in found])
        return float(np.linalg.norm(other - vector) / np.linalg.norm(vector))

    return {form: distance(form) for form in FORMS}


def _metajax_step(settings: Navigation) -> Callable[[], Any]:
    work, adam = make_work(settings), optax.adam(OUTER_RATE)
    step = train_step(work.learner, adam, devices=jax.device_count())

    @jax.jit
    def sampled_step(state: Any, key: jax.Array):
        key, own = jax.random.split(key)
        return *step(state, work.trials(own, settings.tasks)), key

    key = jax.random.key(settings.seed)
    held = [init_state(work.learner, adam, key), key]

    def run() -> None:
        state, _, key = jax.block_until_ready(sampled_step(*held))
        held[:] = state, key

    return run


def _torch_run(settings: Navigation, params: list[np.ndarray], form: str) -> Any:
    # Not imported before it is known that PyTorch is there.
    from benchmarks.rivals import torch_navigation

    work = torch_navigation.Work(
        settings.tasks,
        settings.trajectories,
        settings.horizon,
        DISCOUNT,
        settings.inner_rate,
        OUTER_RATE,
    )
    return torch_navigation.Run(work, params, form)


def _torch_step(settings: Navigation, form: str):
    """A meta-step with the best number of threads, it, and the first one's seconds."""
    run = _torch_run(settings, flat(make_work(settings).meta), form)
    first = timed(lambda: run.step(1))

    def least(threads: int) -> float:
        return min(timed(lambda: run.step(threads)) for _ in range(2))

    best = min({1, os.cpu_count() or 1}, key=least)
    return lambda: run.step(best), best, first


def markdown(title: str, rows: Sequence[Timed]) -> str:
    """A table in Markdown; ratios are to the first row."""
    lines = [
        f"**{title}**",
        "",
        "| | ms (least-most) | of metajax's time | threads | first, s | distance |",
        "|---|---|---|---|---|---|",
    ]
    ours = median(rows[0].steps)
    for row in rows:
        middle, least, most = (f(row.steps) * 1e3 for f in (median, min, max))
        lines.append(
            f"| {row.name} | {middle:.0f} ({least:.0f}-{most:.0f}) "
            f"| {middle / 1e3 / ours:.2f} | {row.threads} | {row.first:.1f} "
            f"| {row.distance:.1e} |"
        )
    return "\n".join(lines)
