"""Figures of losses around a solution, and of scores around settings."""

import numpy as np
from matplotlib.figure import Figure

from metajax.study.landscape import HeatMap, Landscape
from metajax.study.plots.style import HEAT, panels, plot

MARKS = ("o", "s", "^")


@plot.register
def _(result: Landscape) -> Figure:
    figure, axes = panels(2, width=4.2)
    for ax, values, title in (
        (axes[0], result.support_loss, "support loss"),
        (axes[1], result.query_loss, "query loss"),
    ):
        heights = np.log10(np.maximum(values.values, 1e-12))
        drawn = ax.contourf(result.first, result.second, heights, 14, cmap=HEAT)
        figure.colorbar(drawn, ax=ax, label="log₁₀ loss")
        for name, point, mark in zip(result.names, result.points, MARKS):
            ax.plot(*point, mark, color="white", mec="black", ms=8, label=name, ls="")
        ax.set(title=title, xlabel="distance towards adapted")
    axes[0].set_ylabel("distance across")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


@plot.register
def _(result: HeatMap) -> Figure:
    figure, axes = panels(1, width=6)
    mean = result.score.mean("task").values
    low, high = _usual(mean)
    drawn = axes[0].imshow(
        mean, aspect="auto", origin="lower", cmap=HEAT, vmin=low, vmax=high
    )
    figure.colorbar(drawn, ax=axes[0], label="query score")
    axes[0].set_yticks(
        np.arange(len(result.rates)), [f"{rate:.3g}" for rate in result.rates]
    )
    axes[0].set_xticks(np.arange(mean.shape[1]))
    axes[0].set(xlabel="inner steps", ylabel="inner rate")
    for (row, column), value in np.ndenumerate(mean):
        colour = "white" if value < (low + high) / 2 else "black"
        written = f"{value:.2f}" if abs(value) < 100 else f"{value:.0e}"
        axes[0].text(
            column, row, written, color=colour, ha="center", va="center", size=7
        )
    return figure


def _usual(values: np.ndarray) -> tuple[float, float]:
    """The range of the values but for outliers, such as losses that diverged.

    An outlier lies further from the median than ten times the median distance: up to
    half of the values may be outliers.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    away = np.abs(finite - np.median(finite))
    usual = finite[away <= 10 * np.median(away)] if np.median(away) > 0 else finite
    return float(usual.min()), float(usual.max())
