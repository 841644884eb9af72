"""A table of a paper: a run for each row and seed, and what became of them.

A run is a directory of `metajax train`: a script goes on where it stopped, and its
table is read from the directories alone.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.settings import Seeds
from metajax.checks import check_known
from metajax.errors import NonFiniteError
from metajax.experiments import config as configuration
from metajax.experiments.config import Config
from metajax.experiments.labelled import bare_task
from metajax.experiments.presets import PRESETS
from metajax.experiments.run import train
from metajax.experiments.tasks import Places

Budget = Literal["full", "small"]


class Row(NamedTuple):
    """A row: what is run, and what the paper has.

    Attributes:
      config: the run, but for its seed.
      published: the paper's figure, or "".
    """

    config: Config
    published: str = ""


@dataclass(frozen=True)
class Settings:
    """What every table takes."""

    budget: Budget = "small"
    """Length of the runs: the papers' (full, for an accelerator) or less (small)."""
    rows: tuple[str, ...] = ()
    """Rows to run, by name; all by default."""
    seeds: Seeds = (0, 1, 2)
    """Random seeds, a run of each row for each; the test tasks are the same."""
    runs: Path = Path("runs/papers")
    """Folder of the runs; those that are there go on."""
    read: bool = False
    """Print the table of the runs that are there, and run nothing."""
    places: Places = Places()


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with some values, by dotted name, put in place of its own.

    >>> from metajax.experiments.labelled import bare_task
    from metajax.experiments.presets import PRESETS
    >>> changed(PRESETS["glyphs"], {"inner.steps": 3, "learner": "anil"}).inner.steps
    3
    """
    plain: dict[str, Any] = {}
    for name, value in changes.items():
        *groups, last = name.split(".")
        part = plain
        for group in groups:
            part = part.setdefault(group, {})
        part[last] = value
    return configuration.changed(config, plain)


def by_learner(
    preset: str,
    own: Mapping[str, Mapping[str, Any]],
    published: Mapping[str, str],
    last: Mapping[str, Any],
) -> dict[str, Row]:
    """A row for each learner: a preset, what is the learner's own, and what is all's.

    Args:
      preset: by its name.
      own: changes by learner.
      published: the papers' figures by learner.
      last: changes that have the last word.
    """
    return {
        learner: Row(
            changed(PRESETS[preset], {"learner": learner, **changes, **last}),
            published[learner],
        )
        for learner, changes in own.items()
    }


def build(name: str, rows: Mapping[str, Row], settings: Settings) -> str:
    """Runs what has not been run of a table, and returns it as Markdown.

    Args:
      name: of the table, and of its folder.
      rows: by name.
      settings: which of them, and where.
    """
    for row in settings.rows:
        check_known("row", row, rows)
    chosen = {n: rows[n] for n in settings.rows or rows}
    folder = settings.runs / name / settings.budget
    if not settings.read:
        # Seed by seed, so that what is cut short has every row.
        for seed in settings.seeds:
            for row, (config, _) in chosen.items():
                own, directory = replace(config, seed=seed), folder / f"{row}-{seed}"
                has_trained(own, directory, settings.places)
    return _markdown(chosen, folder, settings.seeds)


def has_trained(config: Config, directory: Path, places: Places) -> bool:
    """Trains a run, unless it is there; False, which is printed, if it diverged."""
    print(f"== {directory}", flush=True)
    try:
        train(config, directory, places)
    except NonFiniteError as error:
        print(f"diverged: {error}", flush=True)
        return False
    return True


def _markdown(rows: Mapping[str, Row], folder: Path, seeds: Sequence[int]) -> str:
    lines = [
        "| | transductive (seeds) | inductive | seeds | the paper's | steps, trained / "
        "tested | meta-steps x tasks |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (config, published) in rows.items():
        evaluations = list(_evaluations(folder, name, seeds))
        form = bare_task(config).metric.format
        inner, outer, test = config.inner, config.outer, config.evaluation
        lines.append(
            f"| {name} | {score(evaluations, 'transductive', form)} | "
            f"{score(evaluations, 'inductive', form)} | {len(evaluations)} | "
            f"{published} | "
            f"{inner.steps} / {test.steps} | {outer.steps} x {outer.tasks} |"
        )
    return "\n".join(lines)


def _evaluations(folder: Path, row: str, seeds: Sequence[int]) -> Iterator[dict]:
    for seed in seeds:
        path = folder / f"{row}-{seed}" / "evaluation.json"
        if path.is_file():
            yield json.loads(path.read_text())


def score(
    evaluations: Sequence[Mapping[str, Any]], mode: str, form: Callable[[float], str]
) -> str:
    """The mean over seeds ± the mean of their intervals over tasks, and each seed's.

    A run whose adaptation diverges on some task has no finite figure.
    """
    if not evaluations:
        return "-"
    pairs = [(f[mode]["mean"][-1], f[mode]["interval"][-1]) for f in evaluations]
    if any(None in pair for pair in pairs):
        return "diverged"
    means, intervals = zip(*pairs)
    each = ", ".join(map(form, means))
    mean, interval = (form(statistics.fmean(x)) for x in (means, intervals))
    return f"{mean} ± {interval}" + (f" ({each})" if mode == "transductive" else "")
