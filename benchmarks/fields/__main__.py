"""PSNR by inner steps from a learnt and from a standard start, and who catches up.

    python -m benchmarks.fields RUN [--tasks 50] [--most 500] [--to RECORD.json]

Of a finished run of fields (`metajax train fields-glyphs`). Its own learner adapts to
test images from the learnt start, and from one as the network draws it. Then Adam takes
many more steps from that same standard start, at several rates; for each number of
steps from the learnt start, the table has the fewest that the best rate needs for as
high a mean. All see the same support pixels, and are judged at the others.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
import tyro
from matplotlib.figure import Figure

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Count, Folder, NewFile, Seed
from metajax._files.writing import write_whole
from metajax.errors import InputError
from metajax.experiments.build import build_learner, build_setting, build_task
from metajax.experiments.config import with_learner
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Places
from metajax.study.plots import save
from metajax.types import Learner, PyTree

RATES = 1e-4, 3e-4, 1e-3, 3e-3  # of Adam
LEARNT, STANDARD = "learnt start", "standard start"


@dataclass(frozen=True)
class Settings:
    """Which run is measured, and how long others may take."""

    run: tyro.conf.Positional[Folder]
    """Directory of a run of fields."""
    archives: Folder | None = None
    """Folder of images_background.zip and images_evaluation.zip, for Omniglot."""
    data_dir: Folder | None = None
    """Folder of prepared data; TFDS's own by default."""
    images: Folder | None = None
    """Folder of images, for a run of one."""
    tasks: Count = 50
    """Test images."""
    steps: Count = 8
    """Inner steps of the run's learner."""
    most: Count = 500
    """Steps of Adam from a standard start, at most."""
    rates: tuple[float, ...] = RATES
    """Rates of Adam that are tried."""
    seed: Seed = 0
    """Random seed for sampling test tasks, and of the standard start."""
    to: NewFile | None = None
    """File to write the record to, as JSON."""
    figure: NewFile | None = None
    """File to draw the curves in."""

    @property
    def places(self) -> Places:
        """Where the data are."""
        return Places(self.archives, self.data_dir, self.images)


Curve = tuple[Sequence[float], Sequence[float]]  # means and intervals by steps


def main(settings: Settings) -> None:
    """Prints the table, and keeps its record."""
    curves = measure(settings)
    caught = catching_up(curves)
    print("| steps | learnt start, dB | standard start, dB | Adam needs | at rate |")
    print("|---|---|---|---|---|")
    for k, (learnt, standard) in enumerate(zip(curves[LEARNT][0], curves[STANDARD][0])):
        needed, rate = caught[k]
        steps = f"> {settings.most}" if needed is None else needed
        half = curves[LEARNT][1][k]
        row = f"{k} | {learnt:.2f} ± {half:.2f} | {standard:.2f} | {steps} | {rate}"
        print(f"| {row} |")
    if settings.to is not None:
        record = {"curves": curves, "catching_up": caught, "tasks": settings.tasks}
        write_whole(settings.to, json.dumps(record, indent=2) + "\n")
    if settings.figure is not None:
        save(drawn(curves), settings.figure)


def measure(settings: Settings) -> dict[str, Curve]:
    """PSNR by steps: of the run's learner from two starts, and of Adam at each rate.

    Raises:
      InputError: if the run is not one of fields.
    """
    config = configured(settings.run)
    task = build_task(config, settings.places)
    if task.metric != mj.metrics.psnr():
        raise InputError(
            f"{settings.run} is a run of {config.data.origin[0]}; give one of fields, "
            "such as metajax train fields-glyphs makes"
        )
    sampler = task.episodes("test", config.evaluation.queries)
    key = jax.random.key(settings.seed)

    def curve(learner: Learner, meta: PyTree) -> Curve:
        result = mj.evaluate(
            learner,
            meta,
            sampler,
            task.metric,
            tasks=settings.tasks,
            seed=settings.seed,
            inductive_queries=1,
        ).transductive
        return np.asarray(result.mean).tolist(), np.asarray(result.interval).tolist()

    learner = build_learner(config, task, steps=settings.steps)
    learnt, _ = restored(settings.run, config, task)
    network = build_setting(with_learner(config, "maml"), task).network
    curves = {
        LEARNT: curve(learner, learnt),
        STANDARD: curve(learner, learner.init(key)),
    }
    for rate in settings.rates:
        adam = mj.maml(network, mj.mse, optax.adam(rate), settings.most)
        curves[f"Adam {rate:g}"] = curve(adam, adam.init(key))
    return curves


def catching_up(curves: Mapping[str, Curve]) -> list[tuple[int | None, str]]:
    """For each point of the learnt start's curve, Adam's fewest steps and its rate.

    Args:
      curves: by name, as `measure` gives them.

    Returns:
      None for steps, and the rate that comes nearest, where none gets as far.
    """
    others = {n: x[0] for n, x in curves.items() if n not in (LEARNT, STANDARD)}
    caught = []
    for value in curves[LEARNT][0]:
        reached = {
            name: int(np.argmax(np.asarray(means) >= value))
            for name, means in others.items()
            if max(means) >= value
        }
        name = min(reached, key=lambda n: reached[n]) if reached else None
        nearest = name or max(others, key=lambda n: max(others[n]))
        caught.append((reached.get(nearest), nearest.removeprefix("Adam ")))
    return caught


def drawn(curves: Mapping[str, Curve]) -> Figure:
    """The curves, by steps on a logarithmic axis that has 0."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes: Any = figure.subplots()
    for name, (means, intervals) in curves.items():
        mean, half = np.asarray(means), np.asarray(intervals)
        steps = np.arange(len(mean))
        line = "-" if name in (LEARNT, STANDARD) else "--"
        (drawn,) = axes.plot(steps, mean, line, label=name)
        axes.fill_between(
            steps, mean - half, mean + half, color=drawn.get_color(), alpha=0.2, lw=0
        )
    axes.set_xscale("symlog", linthresh=1)
    axes.set(xlabel="steps on the support pixels", ylabel="PSNR of the others (dB)")
    axes.grid(alpha=0.3)
    axes.legend(title="95 % interval shaded")
    return figure


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.fields", __doc__))
