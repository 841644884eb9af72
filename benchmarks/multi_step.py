"""Whether a loss at every inner step tames the meta-gradient (MAML++ against MAML).

    python -m benchmarks.multi_step [--seeds 5] [--meta-steps 1000]

Sine waves, ten points, two hidden layers of 40; meta-batches of 4, Adam at 1e-3,
nothing clipped. Quantiles of the norms of all meta-gradients of the first meta-steps,
the median over seeds.
"""

import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Count
from metajax.errors import NonFiniteError
from metajax.training.state import TrainState
from metajax.types import Array

STEPS, RATES = (5, 10, 20), (0.01, 0.02, 0.04)
QUANTILES = (0.5, 0.99, 0.999)


@dataclass(frozen=True)
class Settings:
    """How many runs, and how long."""

    seeds: Count = 5
    """Runs of each setting, of seeds 0, 1, ..."""
    meta_steps: Count = 1000
    """Meta-steps of a run."""


class Norms:
    """An observer that remembers the norm of every meta-gradient."""

    def __init__(self):
        self.values: list[float] = []

    def start(self, state: TrainState) -> None:
        """Nothing to do."""

    def record(self, state: TrainState, metrics: dict[str, np.ndarray]) -> None:
        """Keeps the norms of a dispatch."""
        self.values.extend(np.ravel(metrics["gradient_norm"]))


def norms(
    weights: Array | None, steps: int, rate: float, seed: int, meta_steps: int
) -> np.ndarray:
    """The norms of a run; the last is infinite if it diverged."""
    model = mj.mlp(inputs=1, hidden=(40, 40), outputs=1)
    learner = mj.learners.maml_plus_plus(
        model,
        mj.mse,
        mj.learners.fixed(optax.sgd(rate)),
        steps,
        step_weights=weights,
        per_step=mj.learners.nothing,
    )
    seen = Norms()
    training = {"steps": meta_steps, "tasks": 4, "seed": seed, "observers": [seen]}
    try:
        mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), **training)
    except NonFiniteError:
        seen.values.append(np.inf)
    return np.asarray(seen.values)


def main(settings: Settings) -> None:
    """Prints the table."""
    print("| steps | rate | loss | median | 99 % | 99.9 % | diverged |")
    print("|---|---|---|---|---|---|---|")
    for steps in STEPS:
        for rate in RATES:
            for name, weights in (
                ("last", None),
                ("every", jnp.full(steps, 1 / steps)),
            ):
                runs = [
                    norms(weights, steps, rate, seed, settings.meta_steps)
                    for seed in range(settings.seeds)
                ]
                finite = [run[np.isfinite(run)] for run in runs]
                quantiles = np.median(
                    [np.quantile(run, QUANTILES) for run in finite], 0
                )
                lost = sum(not np.isfinite(run).all() for run in runs)
                figures = " | ".join(f"{x:.3g}" for x in quantiles)
                print(f"| {steps} | {rate} | {name} | {figures} | {lost} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.multi_step", __doc__))
