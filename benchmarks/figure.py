"""Draws a record of the suite: time and memory against steps, tasks and width.

    python -m benchmarks.figure RECORD.json docs/speed.png

Each panel takes the record's workloads that differ from w1-5steps-4tasks in one thing.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import tyro

from benchmarks.command import read_record, run_command
from benchmarks.settings import File, NewFile
from benchmarks.workloads import Workload, workload
from metajax.errors import InputError

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

BASE = workload("w1-5steps-4tasks")
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
MARKERS = "osD^vP"
Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Settings:
    """Which record is drawn, and where to."""

    record: tyro.conf.Positional[File]
    """Record that `python -m benchmarks --to` wrote."""
    to: tyro.conf.Positional[NewFile]
    """File to write the figure to; its suffix, such as .png, is the format."""


def coordinates(work: Workload) -> dict[str, int]:
    """What a workload can differ in."""
    return {
        "inner steps": work.steps,
        "tasks in the meta-batch": work.tasks,
        "filters": work.family.filters,
    }


def along(axis: str, results: Mapping[str, Rows]) -> dict[int, Rows]:
    """The results at workloads that differ from the base in `axis` alone, in order."""
    base = coordinates(BASE)
    rows_by_value = {}
    for name, rows in results.items():
        work = workload(name)
        here = coordinates(work)
        others = {key: value for key, value in here.items() if key != axis}
        if work.family.image == BASE.family.image and others.items() <= base.items():
            rows_by_value[here[axis]] = rows
    return dict(sorted(rows_by_value.items()))


def draw(axes: Axes, points: Mapping[int, Rows], quantity: str) -> None:
    """A line a rival: the median and quartiles of its time, or its peak memory."""
    rivals = dict.fromkeys(rival for rows in points.values() for rival in rows)
    for rival, colour, marker in zip(rivals, COLOURS, MARKERS):
        shown = {x: rows[rival] for x, rows in points.items() if rival in rows}
        if quantity == "time":
            quartiles = [
                np.quantile(row["steps_s"], [0.25, 0.5, 0.75]) for row in shown.values()
            ]
            low, y, high = 1e3 * np.transpose(quartiles)
            axes.fill_between(list(shown), low, high, color=colour, alpha=0.2, lw=0)
        else:
            y = [row["peak"] / 1e9 for row in shown.values()]
        axes.plot(list(shown), y, color=colour, marker=marker, ms=4, label=rival)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(points), [str(x) for x in points])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def main(settings: Settings) -> None:
    """Draws two rows of three panels."""
    results = read_record(settings.record)["results"]
    panels, grid = plt.subplots(
        2, 3, figsize=(9, 5), layout="constrained", sharex="col", sharey="row"
    )
    formats = panels.canvas.get_supported_filetypes()
    if (suffix := settings.to.suffix.removeprefix(".")) not in formats:
        raise InputError(f"no format {suffix!r}; there are {', '.join(formats)}")
    for column, axis in enumerate(coordinates(BASE)):
        points = along(axis, results)
        for row, quantity in enumerate(("time", "memory")):
            draw(grid[row, column], points, quantity)
        grid[1, column].set_xlabel(axis)
    grid[0, 0].set_ylabel("ms a meta-step")
    grid[1, 0].set_ylabel("peak GB of the process")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    panels.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    panels.savefig(settings.to, dpi=150)


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.figure", __doc__))
