"""Sources by targets: learners trained on one family of tasks and tested on others.

    python -m benchmarks.domains --places.archives DIR --tent.steps 10

A run for each source, learner and seed, trained by `metajax train` unless it is there,
at a small budget: its learner's settings of `benchmarks.papers.omniglot`. Each is
tested on every target, its images as they are and inverted, as `metajax evaluate RUN
--on TARGET --inverted False` and `True` do; and again after `--tent.steps` of entropy
minimisation on the queries. What was measured is kept in the runs, and not measured
again. A cell has the transductive score, in which batch norm goes by the statistics of
all queries, and the inductive one, in which it goes by those of the support set and one
query; and the number of seeds, where some have no result.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from benchmarks.command import run_command
from benchmarks.papers.omniglot import BUDGET, SMALL
from benchmarks.papers.table import changed, has_trained, score
from benchmarks.settings import Count, Seeds, some_of
from metajax.errors import InputError
from metajax.experiments.build import bare_task
from metajax.experiments.config import Config
from metajax.experiments.presets import PRESETS
from metajax.experiments.record import Examples
from metajax.experiments.results import numbers_of
from metajax.experiments.run import Changes, evaluate_run
from metajax.experiments.tasks import Places
from metajax.experiments.tent import Tent

Presets = Annotated[tuple[str, ...], some_of("preset", PRESETS)]
Learners = Annotated[tuple[str, ...], some_of("learner", SMALL)]
BOTH = "glyphs", "omniglot-5w1s-small"


@dataclass(frozen=True)
class Settings:
    """Which runs, and on what they are tested."""

    sources: Presets = BOTH
    """Presets to train on."""
    targets: Presets = BOTH
    """Presets to test on, of the same ways and shots."""
    learners: Learners = ("maml", "anil", "proto-maml", "prototypical", "r2d2")
    """Learners."""
    seeds: Seeds = (0, 1, 2)
    """Random seeds, a run of each learner for each; the test tasks are the same."""
    steps: Count = 2_000
    """Meta-steps of a run."""
    filters: Count = 32
    """Filters of Conv4."""
    tasks: Count = 1_000
    """Test tasks."""
    tent: Tent = Tent()
    runs: Path = Path("runs/domains")
    """Folder of the runs; those that are there go on."""
    read: bool = False
    """Print the table of the results that are there, and run nothing."""
    places: Places = Places()


class Column(NamedTuple):
    """What runs are tested on.

    Attributes:
      target: the preset.
      inverted: whether its images are, 1 - x.
      tent: the steps on the queries.
    """

    target: str
    inverted: bool
    tent: Tent

    @property
    def title(self) -> str:
        """As the table has it."""
        tent = f", {self.tent.steps} steps of Tent" if self.tent.steps else ""
        return f"{self.target}{', inverted' * self.inverted}{tent}"

    def name(self, config: Config) -> str:
        """The name of its result in the directory of a run."""
        name = f"evaluation-on-{self.target}{'-inverted' * self.inverted}"
        if not self.tent.steps:
            return name
        numbers = numbers_of(config.evaluation)
        return f"{name}-test-{numbers}{self.tent.name}-step{config.outer.steps}"

    def result(self, run: Path, config: Config) -> dict[str, Any] | None:
        """The result of a run, if it is there and of as many meta-steps and tasks."""
        name = self.name(config)
        by_folder = "images" in PRESETS[self.target].data.places
        numbers = {"meta_step": config.outer.steps, "tasks": config.evaluation.tasks}
        for path in sorted(run.glob(f"{name}*.json")):
            result = json.loads(path.read_text())
            protocol = result["protocol"]
            data = protocol.get("data_folder"), protocol.get("data_digest")
            suffix = Examples(*data, named=by_folder).suffix
            if path.stem == name + suffix and numbers.items() <= protocol.items():
                return result
        return None


def columns(settings: Settings) -> list[Column]:
    """All that runs are tested on."""
    tents = (Tent(), settings.tent) if settings.tent.steps else (Tent(),)
    return [
        Column(target, inverted, tent)
        for target in settings.targets
        for inverted in (False, True)
        for tent in tents
    ]


def config_of(source: str, learner: str, settings: Settings) -> Config:
    """The run of a learner on a source, but for its seed."""
    last = {
        "model.filters": settings.filters,
        "outer.steps": settings.steps,
        "evaluation.tasks": settings.tasks,
    }
    own = {"learner": learner, **SMALL[learner], **BUDGET, **last}
    return changed(PRESETS[source], own)


def run_of(source: str, learner: str, seed: int, settings: Settings) -> Path:
    """The directory of a run."""
    return settings.runs / f"{source}-{learner}-{seed}"


def check(settings: Settings) -> None:
    """Refuses presets that are not of one kind and of the same ways and shots.

    Raises:
      InputError: if they are not.
    """
    first, *others = (*settings.sources, *settings.targets)
    for other in others:
        ours, theirs = (_numbers(PRESETS[name]) for name in (first, other))
        if ours != theirs:
            raise InputError(
                f"sources and targets must be of one kind, ways and shots: {first} is "
                f"of {ours}, and {other} of {theirs}"
            )


def _numbers(config: Config) -> str:
    numbers = {name: getattr(config.data, name, 0) for name in ("ways", "shots")}
    return f"{bare_task(config).kind}, {numbers['ways']} ways, {numbers['shots']} shots"


def places_of(preset: str, places: Places) -> Places:
    """Those of the places that a preset's data come from."""
    names = PRESETS[preset].data.places
    return replace(Places(), **{name: getattr(places, name) for name in names})


def run(settings: Settings) -> None:
    """Trains and tests what is wanting, seed by seed."""
    every = product(settings.seeds, settings.sources, settings.learners)
    for seed, source, learner in every:
        directory = run_of(source, learner, seed, settings)
        config = replace(config_of(source, learner, settings), seed=seed)
        if has_trained(config, directory, places_of(source, settings.places)):
            for column in columns(settings):
                _test(directory, config, column, settings.places)


def _test(directory: Path, config: Config, column: Column, places: Places) -> None:
    if column.result(directory, config) is None:
        target, inverted, tent = column
        changes = Changes(on=target, inverted=inverted, tent=tent)
        evaluate_run(directory, changes, "test", places_of(target, places))


def table(settings: Settings) -> str:
    """The results that are there, as Markdown."""
    shown = columns(settings)
    lines = [
        "| source | learner | " + " | ".join(c.title for c in shown) + " |",
        "|---|---" + "|---" * len(shown) + "|",
    ]
    for source in settings.sources:
        form = bare_task(PRESETS[source]).metric.format
        for learner in settings.learners:
            runs = [run_of(source, learner, s, settings) for s in settings.seeds]
            config = config_of(source, learner, settings)
            results = [[c.result(run, config) for run in runs] for c in shown]
            cells = [_cell(each, form) for each in results]
            lines.append(f"| {source} | {learner} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(results: Sequence[Any], form: Callable[[float], str]) -> str:
    """Both scores; and of how many seeds, if not of all."""
    present = [result for result in results if result is not None]
    means = [score(present, mode, form) for mode in ("transductive", "inductive")]
    scores = " / ".join(mean.partition(" (")[0] for mean in means)
    few = 0 < len(present) < len(results)
    return scores + f" ({len(present)} of {len(results)} seeds)" * few


def main(settings: Settings) -> None:
    """Prints the table."""
    check(settings)
    if not settings.read:
        run(settings)
    print(table(settings))


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.domains", __doc__))
