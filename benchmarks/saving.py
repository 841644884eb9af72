"""How long a save holds training up: blocking, in the background, by orbax's thread.

    python -m benchmarks.saving [--saves 20] [--filters 64]

The state is that of Adam over Conv4 (28x28, 5-way). First the time until the call
returns, with the device idle; then what `fit` takes longer, a save, on Omniglot-like
tasks, when it saves after each dispatch.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Count
from metajax.training.background import in_background
from metajax.training.checkpoints import Checkpoints

Save = Callable[[mj.TrainState], None]
PAUSE = 0.5  # seconds between saves, in which a dispatch would run


@dataclass(frozen=True)
class Settings:
    """How many saves, and how large a state."""

    saves: Count = 20
    """Saves of each way to save."""
    filters: Count = 64
    """Filters of the Conv4 whose state is saved."""


@contextmanager
def orbax_thread(folder: Path):
    """Orbax's own asynchronous manager, kept open."""
    options = ocp.CheckpointManagerOptions(max_to_keep=3)
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        yield lambda state: manager.save(
            int(state.step),
            args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
        )


WAYS: dict[str, Callable[[Path], AbstractContextManager[Save]]] = {
    "blocking": lambda folder: nullcontext(Checkpoints(folder).save),
    "in the background": lambda folder: in_background(Checkpoints(folder).save),
    "orbax, asynchronous": orbax_thread,
}


def calls(way: str, state: mj.TrainState, saves: int) -> np.ndarray:
    """Seconds until each call returns, the copy to the host included."""
    times = []
    with tempfile.TemporaryDirectory() as folder, WAYS[way](Path(folder)) as save:
        for _ in range(saves + 1):
            state = state._replace(step=state.step + 1)
            began = time.perf_counter()
            save(jax.tree.map(np.array, state))
            times.append(time.perf_counter() - began)
            time.sleep(PAUSE)
    return np.array(times[1:])  # the first one sets things up


class Blocking:
    """An observer that saves."""

    def __init__(self, folder: Path):
        self._checkpoints = Checkpoints(folder)

    def start(self, state: mj.TrainState) -> None:
        """Nothing to do."""

    def record(self, state: mj.TrainState, metrics: Any) -> None:
        """Saves."""
        self._checkpoints.save(state)


class Clock:
    """An observer that notes when dispatches end."""

    def __init__(self):
        self.ends: list[float] = []

    def start(self, state: mj.TrainState) -> None:
        """Nothing to do."""

    def record(self, state: mj.TrainState, metrics: Any) -> None:
        """Notes."""
        self.ends.append(time.perf_counter())


def training(learner: mj.Learner, saves: int, way: str) -> np.ndarray:
    """Seconds a dispatch, from the end of the one before."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "none": lambda path: dict(observers=[clock]),
            "blocking": lambda path: dict(observers=[clock, Blocking(path)]),
            "in the background": lambda path: dict(
                observers=[clock], checkpoints=Checkpoints(path), checkpoint_every=2
            ),
        }[way](Path(folder))
        mj.fit(
            learner,
            optax.adam(1e-3),
            mj.data.glyphs(5, 1, 5),
            steps=2 * (saves + 2),
            tasks=8,
            steps_per_call=2,
            **options,
        )
    return np.diff(clock.ends)[1:]


def main(settings: Settings) -> None:
    """Prints both tables."""
    model = mj.conv4(5, settings.filters)
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.4), 1)
    state = mj.init_state(learner, optax.adam(1e-3), jax.random.key(0))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    print(f"on {jax.devices()[0].device_kind}, a state of {size / 2**20:.2f} MiB")
    print("| save | ms until it returns: median | largest |\n|---|---|---|")
    for way in WAYS:
        times = 1e3 * calls(way, state, settings.saves)
        print(f"| {way} | {np.median(times):.1f} | {times.max():.1f} |", flush=True)
    print("\n| saves in `fit` | ms a dispatch: median | largest |\n|---|---|---|")
    for way in ("none", "blocking", "in the background"):
        times = 1e3 * training(learner, settings.saves, way)
        print(f"| {way} | {np.median(times):.1f} | {times.max():.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.saving", __doc__))
