"""Rows of a table of strategies, and its record."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.command import read_record
from benchmarks.suite import machine
from metajax.metrics import mean


@dataclass(frozen=True)
class Row:
    """A strategy and its figure.

    Attributes:
      name: of the strategy.
      value: the figure; None if only the published one is known.
      interval: half its 95 % interval; None if it is exact.
      seconds: that it took, compilation included.
      published: the figure of a paper.
    """

    name: str
    value: float | None = None
    interval: float | None = None
    seconds: float | None = None
    published: str = ""


def measured(name: str, totals: Callable[[], np.ndarray]) -> Row:
    """The row of a strategy: its mean over tasks.

    Args:
      name: of the strategy.
      totals: plays, and returns the total reward of each task, `float[tasks]`.
    """
    jax.clear_caches()  # so that each row compiles what it runs
    began = time.perf_counter()
    value, interval = mean(totals())
    return Row(name, float(value), float(interval), time.perf_counter() - began)


def beside(rows: Mapping[str, Row], published: Mapping[str, str]) -> list[Row]:
    """Rows with the published figures of the same keys, and then the other figures.

    Args:
      rows: what was measured, such as `{"RL²": Row("metajax rl2", 6.61, 0.02)}`.
      published: figures of papers.
    """
    ours = [replace(row, published=published.get(key, "")) for key, row in rows.items()]
    others = (name for name in published if name not in rows)
    return [*ours, *(Row(name, published=published[name]) for name in others)]


def markdown(title: str, rows: Sequence[Row]) -> str:
    """A table in Markdown, a line for each row.

    Its widest finite interval has two significant digits.

    >>> print(markdown("5 arms", [Row("random", 5.0, 0.021), Row("optimum", 6.66)]))
    **5 arms**
    <BLANKLINE>
    | strategy | value | published | seconds |
    |---|---|---|---|
    | random | 5.000 ± 0.021 |  |  |
    | optimum | 6.660 |  |  |
    """
    intervals = (row.interval or 0.0 for row in rows)
    widest = max(filter(math.isfinite, intervals), default=0.0)
    digits = max(0, 1 - math.floor(math.log10(widest))) if widest else 3
    lines = [
        f"**{title}**",
        "",
        "| strategy | value | published | seconds |",
        "|---|---|---|---|",
    ]
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        cells = row.name, _figure(row, digits), row.published, seconds
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(row: Row, digits: int) -> str:
    if row.value is None:
        return ""
    interval = "" if row.interval is None else f" ± {row.interval:.{digits}f}"
    return f"{row.value:.{digits}f}{interval}"


def read_earlier(path: Path | None) -> dict[str, Any]:
    """The record that is there already, or an empty one.

    Raises:
      InputError: if the file is no record.
    """
    if path is None or not path.exists():
        return {"results": {}}
    return read_record(path)


def keep(path: Path | None, tables: Mapping[str, Sequence[Any]]) -> None:
    """Adds tables to a record, whose other tables stay.

    Args:
      path: the file; None keeps nothing.
      tables: rows by the table's title; a row is a dataclass.
    """
    if path is None:
        return
    record = read_earlier(path) | {"machine": machine()}
    for title, rows in tables.items():
        record["results"][title] = [asdict(row) for row in rows]
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
