"""A map of a run's tasks, each of classes of one group, by Task2Vec.

    python -m benchmarks.task_map RUN --places.archives DIR --to map.png

How often two tasks of one alphabet (or of one folder of folders) are nearer than two of
different ones, with the run's learner as the probe. `metajax study RUN --only tasks` is
the same on the validation classes, which are of five alphabets.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.command import run_command
from benchmarks.settings import Count, NewFile, Seed
from metajax import study
from metajax.data import grouped_tasks
from metajax.errors import InputError
from metajax.experiments.build import build_learner, build_task
from metajax.experiments.run import configured, restored
from metajax.experiments.tasks import Places, Split
from metajax.study.plots import plot, save


@dataclass(frozen=True)
class Settings:
    """Which probe, and on which tasks."""

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    split: Split = "test"
    """Which classes."""
    tasks: Count = 100
    """Tasks, at most."""
    examples: Count = 10
    """Images a class."""
    seed: Seed = 0
    """Random seed of which classes are together."""
    to: NewFile | None = None
    """File to draw the map in."""
    places: Places = Places()


def main(settings: Settings) -> None:
    """Prints the number, and draws the map."""
    config = configured(settings.run)
    task = build_task(config, settings.places)
    if task.store is None:
        raise InputError(
            f"{settings.run} is a run of {config.data.origin[0]}, whose classes have "
            "no names; give one of Omniglot or of a folder"
        )
    meta, _ = restored(settings.run, config, task)
    learner = build_learner(config, task, steps=config.evaluation.steps)
    tasks, groups = grouped_tasks(
        task.store(settings.split),
        config.data.ways,
        settings.examples,
        tasks=settings.tasks,
        seed=settings.seed,
    )
    result = study.task_map(learner, meta, tasks, groups)
    print(
        f"{len(groups)} tasks of {len(set(groups))} groups: two of one group are "
        f"nearer than two of different ones with probability {result.nearer:.3f} ± "
        f"{result.interval:.3f}"
    )
    if settings.to is not None:
        save(plot(result), settings.to)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.task_map", __doc__))
