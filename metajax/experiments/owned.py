"""The files that belong to a run, and that nothing but the run may write."""

import os
from fnmatch import fnmatchcase
from pathlib import Path

from metajax._files import lock
from metajax.experiments import backbone, record, results
from metajax.experiments.config import CONFIG

# As `metajax.experiments.run` lists them; files below one of these are a run's too.
OWN = (
    CONFIG,
    record.FILE,
    backbone.FILE,
    lock.NAME,
    "metrics.jsonl",
    "learning_curve.png",
    "adaptation*.png",
    f"{results.OWN}*",
    "checkpoints",
    "checkpoints-damaged",
    "best",
    "best-damaged",
    "events",
    "study",
    "study-*/*",
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


def _is_own(below: Path) -> bool:
    names = below.parts[0].casefold(), below.as_posix().casefold()
    return any(fnmatchcase(name, own) for name in names for own in OWN)
