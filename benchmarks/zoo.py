"""A zoo: small runs that a CPU trains in minutes, each published as one file.

    python -m benchmarks.zoo --to zoo [--places.archives DIR]

A run is a directory of `metajax train` in `--runs`: one that is there goes on, and one
that is finished is published as it is. Beside the files and their cards are zoo.json,
with what each reaches and its SHA-256, and README.md, which has the same as a table.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import metajax
from benchmarks.command import run_command
from benchmarks.domains import places_of
from benchmarks.papers.table import changed
from benchmarks.settings import some_of
from metajax._files.writing import write_whole
from metajax.experiments.build import bare_task
from metajax.experiments.card import LABELS
from metajax.experiments.config import Config
from metajax.experiments.presets import PRESETS
from metajax.experiments.published import META, SUFFIX, Published, read_published
from metajax.experiments.publishing import publish
from metajax.experiments.restoring import configured
from metajax.experiments.run import train
from metajax.experiments.tasks import Places

LICENCE = "MIT"  # that of the library, whose runs they are
INDEX, README = "zoo.json", "README.md"
SMALL = {"model.filters": 32, "outer.steps": 1000}
ROWS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "sinusoid-maml": ("sinusoid", {"outer.steps": 2000}),
    "glyphs-prototypical": ("glyphs", {"learner": "prototypical", **SMALL}),
    "omniglot-5w1s-maml": ("omniglot-5w1s-small", SMALL),
    "omniglot-5w1s-anil": ("omniglot-5w1s-small", {"learner": "anil", **SMALL}),
    "omniglot-5w1s-prototypical": (
        "omniglot-5w1s-small",
        {"learner": "prototypical", **SMALL, "data.train_ways": 20, "outer.tasks": 2},
    ),
    "omniglot-5w1s-r2d2": ("omniglot-5w1s-small", {"learner": "r2d2", **SMALL}),
}
"""By name: a preset, and what is changed of it."""


@dataclass(frozen=True)
class Settings:
    """What is built, and where."""

    to: Path
    """Folder of the files, made if there is none."""
    runs: Path = Path("runs/zoo")
    """Folder of the runs; those that are there go on."""
    rows: Annotated[tuple[str, ...], some_of("run", ROWS)] = tuple(ROWS)
    """Which runs, by name."""
    places: Places = Places()


def main(settings: Settings) -> None:
    """Trains what is wanting, publishes it, and writes the index of the folder."""
    settings.to.mkdir(parents=True, exist_ok=True)
    for name in settings.rows:
        directory = settings.runs / name
        print(f"== {directory}", flush=True)
        config = configuration(name)
        train(config, directory, places_of(ROWS[name][0], settings.places))
        publish(directory, settings.to / f"{name}{SUFFIX}", licence=LICENCE)
    entries = index(settings.to)
    text = json.dumps({"metajax": metajax.__version__, "runs": entries}, indent=2)
    write_whole(settings.to / INDEX, text + "\n")
    write_whole(settings.to / README, readme(entries))
    print(table(entries))


def configuration(name: str) -> Config:
    """The run of a row.

    >>> configuration("omniglot-5w1s-anil").learner
    'anil'
    """
    preset, changes = ROWS[name]
    return changed(PRESETS[preset], changes)


def index(folder: Path) -> dict[str, dict[str, Any]]:
    """What each file of the zoo in a folder is and reaches, by name."""
    files = (folder / f"{name}{SUFFIX}" for name in ROWS)
    return {file.stem: _entry(read_published(file)) for file in files if file.is_file()}


def _entry(published: Published) -> dict[str, Any]:
    path, config = published.path, configured(published.path)
    result = json.loads(published.texts["evaluation.json"])
    own = {x: a for x, a in published.arrays.items() if x.startswith(META)}
    score, task = result["transductive"], bare_task(config)
    metric = task.metric
    mean, interval = score["mean"][-1], score["interval"][-1]
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "tasks": config.data.origin[0],
        "kind": task.kind,
        "learner": config.learner,
        "network": config.model.name,
        "parameters": sum(x.size for x in own.values()),
        "meta_steps": published.step,
        "metric": metric.name,
        "mean": mean,
        "interval": interval,
        "shown": f"{metric.format(mean)} ± {metric.format(interval)}",
        "test_tasks": result["protocol"]["tasks"],
        "licence": published.texts["licence"],
    }


def table(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The index as Markdown."""
    lines = [
        "| run | learner | parameters | meta-steps | test tasks | reaches | kB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in entries.items():
        lines.append(
            f"| {name} | {entry['learner']} | {entry['parameters']:,} | "
            f"{entry['meta_steps']:,} | {entry['test_tasks']:,} | {entry['metric']} "
            f"{entry['shown']} | {entry['bytes'] / 1000:.0f} |"
        )
    return "\n".join(lines)


def readme(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """What the folder holds and how a file is used, as Markdown."""
    any_file = next(iter(entries.values()))["file"]
    taught = [x for x in entries.values() if x["kind"] in LABELS]
    commands = [f"metajax evaluate {any_file}"]
    commands += [f"metajax label {x['file']} {LABELS[x['kind']]}" for x in taught[:1]]
    commands.append(
        f"metajax train --config {any_file} --from {any_file} --run-dir runs/more"
    )
    return "\n\n".join(
        (
            f"# Runs of metajax {metajax.__version__}",
            "Each is one file of `metajax publish`: parameters, configuration and "
            "result. They were trained on a CPU in minutes, to be tried, and not to be "
            "compared with papers. The result is on test tasks, with a 95 % interval.",
            table(entries),
            "```sh\n" + "\n".join(commands) + "\n```",
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.zoo", __doc__))
