"""Figures of the curvature."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from metajax.study.curvature import Density, Sensitivity, Spectrum, density
from metajax.study.plots.style import (
    BLUE,
    CYCLE,
    DASHES,
    RED,
    dots,
    finish,
    panels,
    plot,
)


@plot.register
def _(result: Spectrum) -> Figure:
    figure, axes = panels(3)
    steps = [str(k) for k in result.steps]
    for values, label, mark, colour in (
        (result.largest, "largest", "o", RED),
        (result.smallest, "smallest", "v", BLUE),
    ):
        style: dict[str, Any] = {"fmt": mark, "color": colour, "label": label}
        dots(axes[0], values.take("rank", 0), steps, **style)
    finish(axes[0], "inner steps", "Hessian eigenvalue")
    axes[0].axhline(0, color="grey", lw=0.8)
    axes[0].legend()
    dots(axes[1], result.stable_rate, steps, fmt="o", color=RED)
    finish(axes[1], "inner steps", "largest stable rate, 2 / λ_max", scale="log")
    _curves(axes[2], density(result), result.steps)
    return figure


@plot.register
def _(result: Density) -> Figure:
    figure, axes = panels(1, width=5)
    _curves(axes[0], result, tuple(range(len(result.density.values))))
    return figure


@plot.register
def _(result: Sensitivity) -> Figure:
    figure, axes = panels(1, width=4.5)
    ranks = [str(k + 1) for k in range(result.singular_values.values.shape[1])]
    dots(axes[0], result.singular_values, ranks, fmt="o", color=BLUE)
    axes[0].axhline(1, color="grey", lw=0.8)
    finish(axes[0], "rank", "singular value", scale="log")
    return figure


def _curves(ax, result: Density, steps: tuple[int, ...]) -> None:
    for place, step in enumerate(steps):
        ax.plot(
            result.eigenvalue,
            np.maximum(result.density.values[place], 1e-8),
            DASHES[place % len(DASHES)],
            color=CYCLE[place % len(CYCLE)],
            label=f"after {step} steps",
        )
    finish(ax, "Hessian eigenvalue", "density", scale="log")
    top = result.density.values.max()
    ax.set_ylim(1e-6 * top, 2 * top)
    ax.legend(fontsize=8)
