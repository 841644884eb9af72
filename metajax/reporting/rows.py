"""Rows of numbers, a dispatch of training each, as lines of JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metajax._files.writing import write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.metrics import Z95
from metajax.training.state import TrainState


class JsonLines:
    """Appends one row of JSON per dispatch: the mean of each metric and its interval.

    When training resumes from a checkpoint, rows past its step are removed, so that the
    file reads as if training had never stopped.

    Args:
      path: the file.

    >>> import tempfile, optax, metajax as mj
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> training = dict(steps=20, tasks=4, steps_per_call=10)
    >>> training["observers"] = [JsonLines(path)]
    >>> _ = mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), **training)
    >>> [row["step"] for row in read_rows(path)]
    [10, 20]
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)

    def start(self, state: TrainState) -> None:
        """Removes the rows past the state's step."""
        rows = read_rows(self._path)
        kept = [json.dumps(row) for row in rows if row["step"] <= int(state.step)]
        write_whole(self._path, "".join(row + "\n" for row in kept))

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Appends the row of a dispatch."""
        self.write({"step": int(state.step), "split": "train", **means(metrics)})

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends any row that has a `step`."""
        with self._path.open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a JSON-lines file, without a last row that was cut short.

    Args:
      path: the file; it has no rows if it does not exist.

    Returns:
      The rows in order, each with a `step`.

    Raises:
      InputError: if a line is not an object with a step.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [_row(path, i, line) for i, line in enumerate(lines[:-1], start=1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        check_count("its step", row["step"], least=0)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"line {number} of {path} is not a row of metrics ({error}); delete it, or "
            "move the file away"
        ) from error
    return row


def finite(value: Any) -> Any:
    """Replaces NaN and infinities by None, since JSON has neither."""
    if isinstance(value, Mapping):
        return {name: finite(x) for name, x in value.items()}
    if isinstance(value, list):
        return [finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each metric over a dispatch, and half its 95 % interval."""
    means = {}
    for name, values in metrics.items():
        means[name] = float(np.mean(values))
        if len(values) > 1:
            error = np.std(values, ddof=1) / math.sqrt(len(values))
            means[f"{name}_interval"] = float(Z95 * error)
    return means
