"""Figures of losses around a solution, and of scores around settings."""

import numpy as np
from matplotlib.figure import Figure

from metajax.study.landscape import HeatMap, Landscape
from metajax.study.plots.style import HEAT, panels, plot

MARKS = ("o", "s", "^")


@plot.register
def _(found: Landscape) -> Figure:
    figure, axes = panels(2, width=4.2)
    for ax, values, title in (
        (axes[0], found.support_loss, "support loss"),
        (axes[1], found.query_loss, "query loss"),
    ):
        heights = np.log10(np.maximum(values.values, 1e-12))
        drawn = ax.contourf(found.first, found.second, heights, 14, cmap=HEAT)
        figure.colorbar(drawn, ax=ax, label="log₁₀ loss")
        for name, point, mark in zip(found.names, found.points, MARKS):
            ax.plot(*point, mark, color="white", mec="black", ms=8, label=name, ls="")
        ax.set(title=title, xlabel="distance towards adapted")
    axes[0].set_ylabel("distance across")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


@plot.register
def _(found: HeatMap) -> Figure:
    figure, axes = panels(1, width=6)
    mean = found.score.mean("task").values
    drawn = axes[0].imshow(mean, aspect="auto", origin="lower", cmap=HEAT)
    figure.colorbar(drawn, ax=axes[0], label="query score")
    axes[0].set_yticks(
        np.arange(len(found.rates)), [f"{rate:.3g}" for rate in found.rates]
    )
    axes[0].set_xticks(np.arange(mean.shape[1]))
    axes[0].set(xlabel="inner steps", ylabel="inner rate")
    shown = np.nanmean([np.nanmin(mean), np.nanmax(mean)])
    for (row, column), value in np.ndenumerate(mean):
        colour = "white" if value < shown else "black"
        axes[0].text(
            column, row, f"{value:.2f}", color=colour, ha="center", va="center", size=7
        )
    return figure
