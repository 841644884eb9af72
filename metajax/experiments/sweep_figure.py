"""The figure of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    axes.set(xlabel=first)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.3, len(places) - 0.7)
    _label(axes, metric)
    if others:
        axes.legend(fontsize="small")
    save(figure, path)


def draw_trials(rows: Sequence[Row], metric: Metric, path: Path) -> None:
    """Draws the last validation of each trial by each option; later ones are darker."""
    scored = [row for row in rows if row.validation is not None]
    options = [*rows[0].values]
    figure, panes = panels(len(options))
    for name, axes in zip(options, panes):
        values = [row.values[name] for row in scored]
        x = _places(axes, values)
        y, order = [row.validation for row in scored], np.arange(len(scored))
        axes.scatter(x, y, c=order, cmap="Blues", vmin=-len(scored), edgecolors="0.3")
        axes.set(xlabel=name)
    for axes in panes:
        _label(axes, metric)
    save(figure, path)


def _places(axes: Any, values: Sequence[Any]) -> list[Any]:
    """Where values are on the axis, whose scale is set: numbers, or names."""
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
        if values and 0 < 10 * min(values) < max(values):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(lambda value, _: "")  # they would overlap
        elif all(isinstance(x, int) for x in values):
            axes.xaxis.get_major_locator().set_params(integer=True)
        return list(values)
    names = sorted({str(x) for x in values})
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)
    return [names.index(str(x)) for x in values]


def _label(axes: Any, metric: Metric) -> None:
    unit = f" ({metric.unit})" if metric.unit else ""
    axes.set(ylabel=f"validation {metric.name}{unit}")
    if metric.better(1.0, 0.0):
        axes.yaxis.set_major_formatter(lambda value, _: metric.format(value))
    axes.grid(alpha=0.3)
