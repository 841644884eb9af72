"""Figures of the inner loop."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metajax.study.named import Named
from metajax.study.plots.style import (
    BLUE,
    RED,
    band,
    bands,
    finish,
    legend,
    panels,
    plot,
)
from metajax.study.trajectories import Trajectories


@plot.register
def _(result: Trajectories) -> Figure:
    figure, axes = panels(3, 2)
    steps = np.arange(result.support_loss.values.shape[1])
    for ax, (support, query), y in (
        (axes[0], (result.support_loss, result.query_loss), "loss"),
        (axes[1], (result.support_score, result.query_score), "score"),
    ):
        _sides(ax, steps, support, query)
        finish(ax, "inner steps", y, scale="log" if y == "loss" else "linear")
        ax.legend()
    between = steps[:-1] + 0.5
    for ax, x, values, y, scale in (
        (axes[2], steps, result.gradient_norm, "gradient norm", "log"),
        (axes[3], between, result.step_norm, "norm of a step", "symlog"),
        (axes[4], steps, result.distance, "distance from the start", "linear"),
        (axes[5], between, result.cosine, "cosine to the next gradient", "linear"),
    ):
        bands(ax, x, values, result.layers)
        finish(ax, "inner steps", y)
        if scale == "symlog":  # layers that do not move have steps of 0
            ax.set_yscale("symlog", linthresh=_least(values))
        else:
            ax.set_yscale(scale)
    axes[5].axhline(0, color="grey", lw=0.8)
    legend(figure, axes[5])
    return figure


def _sides(ax: Axes, steps: np.ndarray, support: Named, query: Named) -> None:
    band(ax, steps, support, color=BLUE, ls="--", label="support")
    band(ax, steps, query, color=RED, label="query")


def _least(values: Named) -> float:
    """The least size that is not 0, for a scale that goes through 0."""
    sizes = np.abs(values.values[np.nonzero(values.values)])
    return float(np.quantile(sizes, 0.01)) if len(sizes) else 1.0
