"""What all figures share: colours, bands over tasks, and how a figure is written."""

from collections.abc import Iterator, Sequence
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metajax._files.writing import write_whole
from metajax.study.layers import ALL
from metajax.study.named import Named

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PINK, YELLOW, BLACK = "#56b4e9", "#cc79a7", "#f0e442", "#000000"
CYCLE = (BLUE, ORANGE, GREEN, RED, PINK, SKY, YELLOW)
# Dashes too, for print: all layers together, the last, are drawn heavy and black.
DASHES = ("-", "--", "-.", ":")
HEAT = "cividis"
LOW, HIGH = 0.1, 0.9  # the band over tasks
DPI = 150


@singledispatch
def plot(result: Any) -> Figure:
    """Draws the result of a diagnostic.

    Args:
      result: of any function of `metajax.study`.

    Returns:
      A matplotlib figure, which a notebook shows and `save` writes.

    Raises:
      TypeError: if there is no figure of such a result.

    >>> from metajax.study.landscape import HeatMap
    >>> score = Named(np.zeros((3, 2, 4)), ("task", "rate", "step"))
    >>> len(plot(HeatMap(np.array([0.1, 0.2]), score)).axes)  # with its colour bar
    2
    """
    raise TypeError(f"there is no figure of a {type(result).__name__}")


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure, wholly or not at all, as its suffix says: .png, .svg, .pdf."""
    path = Path(path)
    write_whole(path, rendered(figure, path.suffix.lstrip(".")))


def rendered(figure: Figure, form: str) -> bytes:
    """The figure as a file's bytes; the same figure gives the same ones."""
    file = BytesIO()
    stamp = {"svg": "Date", "pdf": "CreationDate"}.get(form)
    with mpl.rc_context({"svg.hashsalt": "metajax"}):
        figure.savefig(
            file, format=form, dpi=DPI, metadata={stamp: None} if stamp else None
        )
    return file.getvalue()


def panels(columns: int, rows: int = 1, *, width: float = 3.4) -> tuple[Figure, Any]:
    """A figure of so many panels, in one row or several."""
    figure = Figure(figsize=(width * columns, 2.9 * rows), layout="constrained")
    return figure, np.ravel(figure.subplots(rows, columns, squeeze=False))


def styles(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """How to draw a line for each layer."""
    for place, name in enumerate(names):
        if name == ALL:
            yield {"label": name, "color": BLACK, "lw": 2.2, "ls": "-"}
        else:
            dashes = DASHES[(place // len(CYCLE) + place) % len(DASHES)]
            colour = CYCLE[place % len(CYCLE)]
            yield {"label": name, "color": colour, "lw": 1.4, "ls": dashes}


def band(axes: Axes, x: np.ndarray, values: Named, **style: Any) -> None:
    """The median over tasks of `[task, x]`, and where the middle 80 % lie."""
    low, middle, high = (values.quantile(q, "task").values for q in (LOW, 0.5, HIGH))
    axes.plot(x, middle, **style)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.12, lw=0)


def lines(axes: Axes, x: np.ndarray, values: Named, names: Sequence[str]) -> None:
    """A line for each layer of `[x, layer]`."""
    for layer, style in enumerate(styles(names)):
        axes.plot(x, values.take("layer", layer).values, **style)


def bands(axes: Axes, x: np.ndarray, values: Named, names: Sequence[str]) -> None:
    """A band for each layer of `[task, x, layer]`."""
    for layer, style in enumerate(styles(names)):
        band(axes, x, values.take("layer", layer), **style)


def dots(
    axes: Axes, values: Named, names: Sequence[str], *, shift: float = 0.0, **style: Any
) -> None:
    """For each layer of `[task, layer]`, the median and the middle 80 %."""
    low, middle, high = (values.quantile(q, "task").values for q in (LOW, 0.5, HIGH))
    places = np.arange(len(names)) + shift
    axes.errorbar(
        places, middle, [middle - low, high - middle], ls="none", capsize=3, **style
    )
    ticks(axes, names)


def ticks(axes: Axes, names: Sequence[str]) -> None:
    """Layers along the horizontal axis."""
    axes.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")


def finish(axes: Axes, x: str, y: str, *, scale: str = "linear") -> None:
    """Labels and a grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_yscale(scale)
    axes.grid(alpha=0.3)


def legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, above them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(len(labels), 6)
    )
