"""Figures of tasks beside each other."""

import numpy as np
from matplotlib.figure import Figure

from metajax.study.plots.style import CYCLE, finish, panels, plot
from metajax.study.task_map import TaskMap

MARKS = "os^DvP*X"


@plot.register
def _(result: TaskMap) -> Figure:
    figure, (ax,) = panels(1, width=6.0)
    own, places = np.array(result.groups), result.places.values
    names = list(dict.fromkeys(result.groups))
    for number, name in enumerate(names):
        x, y = places[own == name].T
        colour = CYCLE[number % len(CYCLE)]
        mark = MARKS[number // len(CYCLE) % len(MARKS)]
        ax.scatter(x, y, s=18, color=colour, marker=mark, label=name, alpha=0.8)
    labels = [f"{share:.0%} of squared distances" for share in result.shares]
    finish(ax, labels[0], labels[1])
    ax.set_aspect("equal", adjustable="datalim")
    if np.isfinite(result.nearer):
        known = f" ± {result.interval:.2f}" if np.isfinite(result.interval) else ""
        text = f"tasks of one group are nearer: {result.nearer:.2f}{known}"
        ax.set_title(text, fontsize=9)
    if len(names) > 1:
        figure.legend(loc="outside right upper", fontsize=7)
    return figure
