"""The results of a sweep, a row a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax.metrics import Metric

Values = Mapping[str, Any]


class Row(NamedTuple):
    """A run of a sweep.

    Attributes:
      values: of the options that differ, by name.
      directory: of the run.
      validation: the score of its last validation; None if it has none.
      validation_interval: half the width of its 95 % interval.
      test: the score of its result, after all adaptation steps.
      test_interval: likewise.
      failed: why it ended early; empty if it did not.
    """

    values: Values
    directory: Path
    validation: float | None = None
    validation_interval: float | None = None
    test: float | None = None
    test_interval: float | None = None
    failed: str = ""


def best_of(rows: Sequence[Row], metric: Metric) -> Row | None:
    """The row of the best validation, so that no test score chooses a setting."""
    scored = [(x.validation, x) for x in rows if x.validation is not None]
    best = None
    for score, row in scored:
        if best is None or metric.better(score, best[0]):
            best = score, row
    return best and best[1]


def table(rows: Sequence[Row], metric: Metric) -> str:
    """The rows as text; the one of the best validation is marked."""
    best, unit = best_of(rows, metric), f" ({metric.unit})" if metric.unit else ""
    lines = [[*rows[0].values, "validation", "test", ""]]
    for row in rows:
        scores = (
            _shown(metric, row.validation, row.validation_interval),
            _shown(metric, row.test, row.test_interval),
        )
        note = "best validation" if row is best else row.failed.split(" (")[0]
        lines.append([*map(_short, row.values.values()), *scores, note])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join(cell.rjust(width) for cell, width in zip(line[:-1], widths))
        + (f"  {line[-1]}" if line[-1] else "")
        for line in lines
    ]
    return "\n".join([*text, f"metric {metric.name}{unit}"])


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _shown(metric: Metric, value: float | None, interval: float | None) -> str:
    if value is None:
        return "-"
    half = "" if interval is None else f" ± {metric.format(interval)}"
    return f"{metric.format(value)}{half}"
