"""The files that belong to a run, and that nothing but the run may write."""

import os
from fnmatch import fnmatchcase
from pathlib import Path

from metajax._files import lock
from metajax.experiments import backbone, record, results
from metajax.experiments.config import CONFIG
from metajax.reporting import TRACKERS

MEASURED = (
    f"{results.OWN}*",
    "adaptation*.png",
    "genotype*.json",
    "cells*.png",
    "alphas*.png",
    "study",
    "study-*/*",
)
# As `metajax.experiments.run` lists them; files below one of these are a run's too.
OWN = (
    CONFIG,
    record.FILE,
    backbone.FILE,
    backbone.BEST,
    lock.NAME,
    "metrics.jsonl",
    "learning_curve.png",
    "checkpoints",
    "checkpoints-damaged",
    "best",
    "best-damaged",
    "events",
    "wandb",
    *(f"{name}.id" for name in TRACKERS),
    *MEASURED,
)


def run_of(path: Path) -> Path | None:
    """The directory of the run that a file belongs to.

    Args:
      path: of the file, which need not exist.

    Returns:
      The directory, which holds a `config.json`; None if the file is not a run's.
    """
    place = Path(os.path.realpath(path))
    for folder in place.parents:
        if (folder / CONFIG).is_file() and _is_own(place.relative_to(folder)):
            return folder
    return None


def is_measured(path: Path) -> bool:
    """Whether a file or a folder in a run's directory is of a result of the run."""
    below = path.name + "/" * path.is_dir()
    return _match((path.name, below), MEASURED)


def _is_own(below: Path) -> bool:
    return _match((below.parts[0], below.as_posix()), OWN)


def _match(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(x.casefold(), each) for x in names for each in patterns)
