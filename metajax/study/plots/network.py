"""Figures of the layers of a network."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metajax.study.named import Named
from metajax.study.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    dots,
    finish,
    panels,
    plot,
)
from metajax.study.representation import Contributions, Freezing, Reuse


@plot.register
def _(found: Reuse) -> Figure:
    figure, axes = panels(1, width=5.5)
    dots(axes[0], found.cka, found.layers, shift=-0.1, fmt="o", color=BLUE, label="CKA")
    dots(axes[0], found.cca, found.layers, shift=0.1, fmt="^", color=RED, label="CCA")
    finish(axes[0], "", "similarity, before to after")
    axes[0].set_ylim(0, 1.05)
    axes[0].legend()
    return figure


@plot.register
def _(found: Contributions) -> Figure:
    figure, axes = panels(1, width=5.5)
    ax, names = axes[0], found.layers
    style = {"fmt": "o", "color": BLUE, "label": "this layer alone adapted"}
    dots(ax, found.alone, names, shift=-0.1, **style)
    style = {"fmt": "^", "color": RED, "label": "all but this layer adapted"}
    dots(ax, found.without, names, shift=0.1, **style)
    _level(ax, found.before, "before adaptation", BLACK, ":")
    _level(ax, found.after, "after", GREEN, "--")
    finish(ax, "", "query score")
    ax.legend(fontsize=8)
    return figure


@plot.register
def _(found: Freezing) -> Figure:
    figure, axes = panels(1, width=5.5)
    ax, names = axes[0], found.layers
    style = {"fmt": "^", "color": RED, "label": "this layer frozen"}
    dots(ax, found.each, names, shift=-0.1, **style)
    style = {"fmt": "o", "color": BLUE, "label": "frozen up to this layer"}
    dots(ax, found.up_to, names, shift=0.1, **style)
    _level(ax, found.none, "nothing frozen", GREEN, "--")
    finish(ax, "", "query score")
    ax.legend(fontsize=8)
    return figure


def _level(ax: Axes, values: Named, label: str, colour: str, line: str) -> None:
    middle = float(values.quantile(0.5, "task").values)
    ax.axhline(middle, color=colour, ls=line, label=label)
