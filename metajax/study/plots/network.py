"""Figures of the layers of a network."""

from collections.abc import Sequence

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
def _(result: Reuse) -> Figure:
    figure, axes = panels(1, width=5.5)
    dots(
        axes[0], result.cka, result.layers, shift=-0.1, fmt="o", color=BLUE, label="CKA"
    )
    dots(axes[0], result.cca, result.layers, shift=0.1, fmt="^", color=RED, label="CCA")
    finish(axes[0], "", "similarity, before to after")
    axes[0].set_ylim(0, 1.05)
    axes[0].legend()
    return figure


@plot.register
def _(result: Contributions) -> Figure:
    figure, ax = _scores(
        result.layers,
        (result.alone, "this layer alone adapted", "o", BLUE),
        (result.without, "all but this layer adapted", "^", RED),
    )
    _level(ax, result.before, "before adaptation", BLACK, ":")
    _level(ax, result.after, "after", GREEN, "--")
    ax.legend(fontsize=8)
    return figure


@plot.register
def _(result: Freezing) -> Figure:
    figure, ax = _scores(
        result.layers,
        (result.each, "this layer frozen", "^", RED),
        (result.up_to, "frozen up to this layer", "o", BLUE),
    )
    _level(ax, result.none, "nothing frozen", GREEN, "--")
    ax.legend(fontsize=8)
    return figure


def _scores(
    names: Sequence[str], *sides: tuple[Named, str, str, str]
) -> tuple[Figure, Axes]:
    """Two scores for each layer, side by side, each with label, mark and colour."""
    figure, (ax,) = panels(1, width=5.5)
    for shift, (values, label, mark, colour) in zip((-0.1, 0.1), sides, strict=True):
        dots(ax, values, names, shift=shift, label=label, fmt=mark, color=colour)
    finish(ax, "", "query score")
    return figure, ax


def _level(ax: Axes, values: Named, label: str, colour: str, line: str) -> None:
    middle = float(values.quantile(0.5, "task").values)
    ax.axhline(middle, color=colour, ls=line, label=label)
