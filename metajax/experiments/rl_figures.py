"""Figures of what an agent does."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from metajax.rl.maze import Maze
from metajax.study.plots.style import BLUE, GREEN, ORANGE


def draw_maze(ax: Axes, task: Maze, positions: Any) -> None:
    """Draws a maze, its start (a circle) and goal (a star), and the way of an agent.

    Args:
      ax: where.
      task: the maze.
      positions: `int[steps + 1, 2]`, (row, column) from the start on; see
        `metajax.rl.maze.places`.
    """
    rows, columns = np.asarray(positions).T
    ax.imshow(np.asarray(task.walls), cmap="gray_r", vmin=0, vmax=1.5)
    # A way that is walked twice is seen twice.
    shift = np.linspace(-0.15, 0.15, len(rows))
    ax.plot(columns + shift, rows + shift, color=BLUE, lw=1.5, alpha=0.8)
    for (row, column), mark, colour in (
        (np.asarray(task.start), "o", ORANGE),
        (np.asarray(task.goal), "*", GREEN),
    ):
        ax.plot(column, row, mark, color=colour, ms=10)
    ax.set(xticks=[], yticks=[])
