"""What it costs to stream Omniglot from the disk instead of keeping it on the device.

    METAJAX_OMNIGLOT_ARCHIVES=DIR python -m benchmarks.streaming [--rounds 3]

`metajax.fit` on the same episodes, resident and streamed by turns: Conv4 with max
pooling, 5-way 1-shot, 15 queries a class, one inner step. What comes before the end of
the first dispatch, compiling too, is not timed. The parameters after the last step must
be the same.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
import optax

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Count, Folder, Index
from benchmarks.workloads import FAMILIES, OUTER_RATE, QUERIES, SHOTS, WAYS
from metajax.training.feeding import WAITED
from metajax.training.state import TrainState
from metajax.types import PyTree, Sampler


@dataclass(frozen=True)
class Settings:
    """How long it trains, and on what."""

    rounds: Count = 3
    """Turns of each way."""
    meta_steps: Count = 100
    """Timed meta-steps of a turn."""
    steps_per_call: Count = 20
    """Meta-steps of a dispatch."""
    tasks: Count = 4
    """Tasks of a meta-batch."""
    filters: Count = 64
    """Filters of the network; fewer leave less time for reading."""
    workers: Index = 0
    """Processes that read; 0 reads in threads."""
    data_dir: Folder | None = None
    """Folder of prepared data; TFDS's own by default."""


class Clock:
    """An observer: when each dispatch ended, and how long each had waited for data.

    Attributes:
      ends: seconds on the wall, and of the processor.
      waits: seconds.
    """

    def __init__(self):
        self.ends: list[tuple[float, float]] = []
        self.waits: list[float] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == WAITED:
            self.waits.append(duration_secs)

    def start(self, state: TrainState) -> None:
        """Training begins."""
        self.ends, self.waits = [], []

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """A dispatch ended."""
        self.ends.append((time.perf_counter(), time.process_time()))


def samplers(settings: Settings) -> dict[str, Callable[[], Sampler]]:
    """Each way to sample, made anew for each turn."""
    places = {
        "archives": os.environ.get("METAJAX_OMNIGLOT_ARCHIVES"),
        "data_dir": settings.data_dir,
    }
    kept = mj.data.omniglot("train", **places)
    mapped = mj.data.omniglot("train", **places, mapped=True)
    ask = WAYS, SHOTS, QUERIES
    workers = settings.workers
    return {
        "resident": lambda: mj.data.image_episodes(kept, *ask, rotations=4),
        "streamed": lambda: mj.data.stream_episodes(
            mapped, *ask, rotations=4, workers=workers
        ),
    }


def train(settings: Settings, episodes: Sampler, clock: Clock) -> PyTree:
    """The parameters after the first dispatch and the timed meta-steps."""
    model = mj.conv4(WAYS, settings.filters)
    rate = FAMILIES["w1"].inner_rate
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(rate), 1)
    return mj.fit(
        learner,
        optax.adam(OUTER_RATE),
        episodes,
        steps=settings.meta_steps + settings.steps_per_call,
        tasks=settings.tasks,
        steps_per_call=settings.steps_per_call,
        observers=[clock],
    ).meta


def distance(tree: PyTree, reference: PyTree) -> float:
    """The largest difference of two numbers."""
    differences = jax.tree.map(
        lambda x, y: float(np.max(np.abs(np.asarray(x) - np.asarray(y)))),
        tree,
        reference,
    )
    return max(jax.tree.leaves(differences))


def main(settings: Settings) -> None:
    """Prints the table."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    clock, forms = Clock(), samplers(settings)
    seconds: dict[str, list[np.ndarray]] = {form: [] for form in forms}
    first, rest, states = [], [], {}
    for _ in range(settings.rounds):
        for form, make in forms.items():
            states[form] = train(settings, make(), clock)
            seconds[form].append(np.subtract(clock.ends[-1], clock.ends[0]))
            if clock.waits:
                first.append(clock.waits[0])
                rest.append(sum(clock.waits[1:]))
    print(f"on {jax.devices()[0].device_kind}, {settings}")
    print("| | s (each turn) | ratio | CPU s | ratio |\n|---|---|---|---|---|")
    middle = {form: np.median(times, axis=0) for form, times in seconds.items()}
    for form, (wall, busy) in middle.items():
        each = ", ".join(f"{t:.2f}" for t, _ in seconds[form])
        ratios = middle[form] / middle["resident"]
        print(
            f"| {form} | {wall:.2f} ({each}) | {ratios[0]:.3f} "
            f"| {busy:.2f} | {ratios[1]:.3f} |"
        )
    print(
        f"waited for data: {statistics.median(first):.2f} s before the first dispatch, "
        f"{statistics.median(rest):.3f} s in the others"
    )
    off = distance(states["streamed"], states["resident"])
    print(f"largest difference of parameters: {off}")
    if off:
        raise SystemExit("error: the parameters are not the same")


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.streaming", __doc__))
