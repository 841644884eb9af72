"""Cells as graphs, and how the α of their edges move from task to task."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metajax.models import CellSpace, Genotype
from metajax.models.genotype import INPUTS, KINDS, CellKind
from metajax.study.plots.style import BLUE, GREEN, HEAT, ORANGE, save, ticks

SIDES = 0.9, -0.9  # heights of the two inputs, and by turns of the nodes


def draw_cells(genotype: Genotype, path: Path) -> None:
    """Draws both cells: states from left to right, each edge with its operation."""
    width = 2.4 * (genotype.nodes + 2)
    figure = Figure(figsize=(width, 6), layout="constrained")
    for ax, kind in zip(figure.subplots(2, 1), KINDS):
        _draw_cell(ax, genotype, kind)
    save(figure, path)


def _draw_cell(ax: Axes, genotype: Genotype, kind: CellKind) -> None:
    last = INPUTS + genotype.nodes
    places = {0: (0.0, SIDES[0]), 1: (0.0, SIDES[1])}
    for node in range(INPUTS, last):
        # At different heights, so that no edge passes through a node.
        height = 0.5 - 0.25 * (node - INPUTS) / genotype.nodes
        places[node] = 1.5 * (node - 1), height * SIDES[node % 2]
    places[last] = 1.5 * (last - 1), 0.0
    names = ["0 (two before)", "1 (before)", *map(str, range(INPUTS, last)), "output"]
    for edge in genotype.edges(kind):
        _arrow(ax, places[edge.source], places[edge.node], edge.operations[0])
    for node in range(INPUTS, last):
        _arrow(ax, places[node], places[last], "")
    colours = [GREEN] * INPUTS + [BLUE] * genotype.nodes + [ORANGE]
    for state, (x, y) in places.items():
        box = {"boxstyle": "round", "fc": "white", "ec": colours[state], "lw": 2}
        ax.text(x, y, names[state], ha="center", va="center", bbox=box, zorder=3)
    ax.set(xlim=(-0.7, 1.5 * last - 0.8), ylim=(-1.3, 1.3), title=f"{kind} cell")
    ax.set_axis_off()


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], label: str
) -> None:
    """An arrow between two states, labelled nearer to where it ends."""
    style = {"arrowstyle": "->", "color": "gray", "shrinkA": 16, "shrinkB": 16}
    ax.annotate("", end, start, arrowprops=style)
    x, y = 0.4 * np.array(start) + 0.6 * np.array(end)
    white = {"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.8}
    ax.text(x, y, label, ha="center", va="center", fontsize=8, bbox=white)


def draw_alphas(
    space: CellSpace,
    before: Mapping[str, Any],
    adapted: Mapping[str, Any] | None,
    path: Path,
    *,
    temperature: float = 1.0,
) -> None:
    """Draws softmax(α / τ) of each edge, and its spread over tasks after adaptation.

    Args:
      space: the nodes and operations that are searched.
      before: the meta-learnt α, `float[edges, operations]` of each kind of cell.
      adapted: those of several tasks, with a leading axis; None of a learner that
        adapts none.
      path: of the figure.
      temperature: τ, at which the α were trained.
    """
    shares_of = partial(_shares, temperature)
    shares = [jax.tree.map(shares_of, dict(before))]
    titles = ["softmax(α / τ), meta-learnt"]
    if adapted is not None:
        each = jax.tree.map(shares_of, dict(adapted))
        shares.append(jax.tree.map(lambda x: np.std(x, 0), each))
        titles.append("its standard deviation over adapted tasks")
    size = 5 * len(shares), 2.2 + 0.5 * len(space.edges("normal"))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(shares), squeeze=False)
    for row, kind in zip(axes, KINDS):
        for ax, values, title in zip(row, shares, titles):
            image = ax.imshow(values[kind], cmap=HEAT, aspect="auto", vmin=0)
            names = [edge.name for edge in space.edges(kind)]
            ticks(ax, space.operations)
            ax.set_yticks(range(len(names)), names)
            ax.set(title=f"{kind} cell: {title}", ylabel="edge")
            ax.title.set_fontsize(9)
            figure.colorbar(image, ax=ax)
    save(figure, path)


def _shares(temperature: float, alphas: Any) -> np.ndarray:
    scaled = np.asarray(alphas, np.float32) / np.float32(temperature)
    return np.asarray(jax.nn.softmax(scaled, axis=-1))
