"""What each diagnostic costs, in meta-steps on the same tasks.

    python -m benchmarks.diagnostics [--tasks 100] [--steps 5]

W1: Conv4-64 with max pooling, 5-way 1-shot, 15 queries a class, inner SGD at 0.1, on
procedural characters; all local devices share the tasks. Tracing and compiling are
counted apart: a diagnostic is compiled each time it is called.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import optax

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Count
from benchmarks.workloads import FAMILIES, QUERIES, SHOTS, WAYS
from metajax import study
from metajax.types import Array, GradTransform, Learner

W1 = FAMILIES["w1"]
REPEATS = 3


@dataclass(frozen=True)
class Settings:
    """How many tasks and inner steps."""

    tasks: Count = 100
    """Tasks of the meta-batch."""
    steps: Count = 5
    """Inner steps."""


def build(
    grad: GradTransform = mj.exact, steps: int = 5, rate: Array | float = W1.inner_rate
) -> Learner:
    """W1's learner."""
    model = mj.conv4(WAYS, W1.filters)
    return mj.maml(model, mj.cross_entropy, optax.sgd(rate), steps, grad=grad)


class Clock:
    """Times a call but for what JAX spends tracing and compiling."""

    def __init__(self):
        self._spent = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile"):
            self._spent += duration_secs

    def __call__(self, function: Callable[[], Any]) -> tuple[float, float]:
        """Seconds that it ran, and that it compiled."""
        before, began = self._spent, time.perf_counter()
        jax.block_until_ready(function())
        whole, compiled = time.perf_counter() - began, self._spent - before
        return whole - compiled, compiled


def main(settings: Settings) -> None:
    """Prints the table."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    tasks, steps = settings.tasks, settings.steps
    sampler = jax.jit(mj.data.glyphs(WAYS, SHOTS, QUERIES), static_argnums=1)
    episodes = sampler(jax.random.key(0), tasks)
    learner = build(steps=steps)
    meta, loss, score = learner.init(jax.random.key(1)), mj.cross_entropy, mj.accuracy
    gradients = partial(build, steps=steps)

    optimizer = optax.adam(1e-3)
    step = jax.jit(mj.train_step(learner, optimizer, devices=jax.local_device_count()))
    state = mj.init_state(learner, optimizer, jax.random.key(1))
    jax.block_until_ready(step(state, episodes))
    clock = Clock()
    one = sorted(clock(lambda: step(state, episodes))[0] for _ in range(REPEATS))[1]
    print(f"a meta-step of {tasks} tasks, {steps} inner steps: {one:.2f} s")

    diagnostics = {
        "trajectories": lambda: study.trajectories(
            learner, meta, episodes, loss, score
        ),
        "orders": lambda: study.orders(
            build,
            meta,
            episodes,
            steps=(steps,),
            rates=(W1.inner_rate,),
        ),
        "expansion": lambda: study.expansion(gradients, meta, episodes),
        "noise": lambda: study.noise(gradients, meta, episodes),
        "spectrum": lambda: study.spectrum(learner, meta, episodes, loss),
        "adaptation_spectrum": lambda: study.adaptation_spectrum(
            gradients(mj.reverse), meta, episodes
        ),
        "reuse": lambda: study.reuse(learner, meta, episodes),
        "contributions": lambda: study.contributions(learner, meta, episodes, score),
        "freezing": lambda: study.freezing(gradients, meta, episodes, score),
        "heat_map": lambda: study.heat_map(
            lambda rate: build(steps=steps, rate=rate),
            meta,
            episodes,
            score,
            rates=(0.05, 0.1, 0.2),
        ),
    }
    print("| diagnostic | meta-steps | compiling, s |\n|---|---|---|")
    for name, function in diagnostics.items():
        ran, compiled = clock(function)
        print(f"| `{name}` | {ran / one:.1f} | {compiled:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.diagnostics", __doc__))
