"""The figure of a sweep."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from metajax.experiments.sweep_rows import Row
from metajax.metrics import Metric
from metajax.study.plots import save
from metajax.study.plots.style import CYCLE, panels

MOST = 12  # lines that have a name


def draw_sweep(rows: Sequence[Row], metric: Metric, path: Path) -> None:
    """Draws the last validations by the first option, with their intervals.

    Runs that differ in other options are lines of their own.
    """
    first, *others = rows[0].values
    places = list(dict.fromkeys(str(row.values[first]) for row in rows))
    lines: dict[str, list[Row]] = {}
    for row in rows:
        name = ", ".join(f"{x} {row.values[x]}" for x in others)
        lines.setdefault(name, []).append(row)
    figure, (axes,) = panels(1, width=5.4)
    for number, (name, group) in enumerate(lines.items()):
        x = [places.index(str(row.values[first])) for row in group]
        y, half = (
            np.array([np.nan if v is None else v for v in values])
            for values in zip(
                *((row.validation, row.validation_interval) for row in group)
            )
        )
        label, colour = name if number < MOST else None, CYCLE[number % len(CYCLE)]
        axes.errorbar(x, y, half, marker="o", capsize=3, label=label, color=colour)
    unit = f" ({metric.unit})" if metric.unit else ""
    axes.set(xlabel=first, ylabel=f"validation {metric.name}{unit}")
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.3, len(places) - 0.7)
    if metric.better(1.0, 0.0):
        axes.yaxis.set_major_formatter(lambda value, _: metric.format(value))
    axes.grid(alpha=0.3)
    if others:
        axes.legend(fontsize="small")
    save(figure, path)
