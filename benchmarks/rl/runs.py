"""Rows of runs of `metajax train`."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rl.rows import Row
from metajax.errors import InputError
from metajax.experiments.families import Family
from metajax.experiments.run import configured


def read_runs(paths: Sequence[Path], data: Family) -> dict[str, Row]:
    """A row of each run's own result, by its directory.

    Args:
      paths: the directories.
      data: what the runs must be of.

    Raises:
      InputError: if a directory holds no evaluated run of these data.
    """
    rows = {}
    for path in paths:
        config = configured(path)
        if config.data != data:
            raise InputError(f"--runs {path} is of {config.data}, and the table {data}")
        result = path / "evaluation.json"
        if not result.is_file():
            raise InputError(
                f"--runs {path} has no evaluation.json; train it to its end"
            )
        score = json.loads(result.read_text())["transductive"]
        name = f"metajax {config.learner}, {config.model.name}, seed {config.seed}"
        rows[str(path)] = Row(name, score["mean"][-1], score["interval"][-1])
    return rows
