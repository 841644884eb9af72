"""What agents do in trials, drawn."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from metajax.data.checking import once
from metajax.experiments.figures import save_and_close
from metajax.experiments.tasks import Task
from metajax.metrics import episode_return, mean
from metajax.rl import Maze, Steps, Trial
from metajax.rl.maze import places
from metajax.study.plots.style import BLUE, GREEN, ORANGE, RED
from metajax.study.tasks import entry
from metajax.types import Array, Learner, PyTree

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

DRAWN = 500  # trials whose average is drawn
SHOWN = 3  # trials, and trajectories of each
COLOURS = RED, ORANGE, GREEN, BLUE


def draw_returns(task: Task, learner: Learner, meta: PyTree, *, to: Path) -> None:
    """Draws the average return after each step of adaptation, with its interval."""

    def returns(agent: PyTree, trial: Trial) -> Array:
        return episode_return(learner.predict(agent, trial))

    trials = _trials(task, DRAWN)
    values, interval = mean(_per_step(learner, meta, trials, returns))
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    steps = np.arange(len(values))
    axes.plot(steps, values, color=BLUE, marker=".")
    axes.fill_between(
        steps, values - interval, values + interval, color=BLUE, alpha=0.2, lw=0
    )
    axes.set(xlabel="episodes, or steps, before", ylabel="return of an episode")
    axes.grid(alpha=0.3)
    save_and_close(figure, to / "adaptation.png")


def draw_pulls(task: Task, learner: Learner, meta: PyTree, *, to: Path) -> None:
    """Draws how often each arm of a bandit is pulled, the best first, by pull."""

    def pulled(agent: PyTree, trial: Trial) -> Array:
        action = learner.predict(agent, trial).action[:, 0]
        rank = jnp.argsort(jnp.argsort(-trial.task))
        return jnp.mean(jax.nn.one_hot(rank[action], len(trial.task)), 0)

    trials = _trials(task, DRAWN)
    shares = np.mean(_per_step(learner, meta, trials, pulled), axis=0)
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    names = ["best arm", "second best", "third"]
    names += [f"{k}th" for k in range(4, shares.shape[1] + 1)]
    for share, name in list(zip(shares.T, names))[:5]:
        axes.plot(np.arange(1, len(share) + 1), share, label=name, marker=".")
    axes.set(xlabel="pull", ylabel="share of trials", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    save_and_close(figure, to / "adaptation.png")


def draw_paths(task: Task, learner: Learner, meta: PyTree, *, to: Path) -> None:
    """Draws trajectories in the plane after each step, and the goal."""
    trials = _trials(task, SHOWN)
    steps = _per_step(learner, meta, trials, learner.predict)
    goals = jax.device_get(trials.task)
    figure, panels = plt.subplots(
        1, SHOWN, figsize=(10, 3.6), sharex=True, sharey=True, layout="constrained"
    )
    for number, axes in enumerate(panels):
        _draw_plane(axes, entry(steps, number), goals[number])
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6
    )
    save_and_close(figure, to / "adaptation.png")


def _draw_plane(axes: Any, steps: Steps, goal: np.ndarray) -> None:
    """The trajectories of one trial, `[adaptation steps, trajectories, horizon]`."""
    last = len(steps.reward) - 1
    for k in sorted({0, min(1, last), last}):
        colour = COLOURS[min(k, len(COLOURS) - 1)]
        for one in range(min(SHOWN, steps.reward.shape[1])):
            alive = steps.alive[k, one]
            x, y = steps.seen.observation[k, one][alive].T
            label = f"after {k} step" + "s" * (k != 1) if one == 0 else None
            axes.plot(x, y, color=colour, lw=1, alpha=0.8, label=label)
    axes.plot(*goal, "*", color="black", ms=12, label="goal")
    axes.set(xlabel="x", ylabel="y", aspect="equal")


def draw_ways(task: Task, learner: Learner, meta: PyTree, *, to: Path) -> None:
    """Draws mazes, with the ways of the first episode (above) and of the last."""
    trials = _trials(task, SHOWN)
    steps = _per_step(learner, meta, trials, learner.predict)
    figure, panels = plt.subplots(2, SHOWN, figsize=(8, 5.6), layout="constrained")
    for number in range(SHOWN):
        maze: Maze = entry(trials.task, number)
        for row, (step, when) in enumerate(((0, "before"), (-1, "after"))):
            alive = steps.alive[number, step, 0]
            actions = jnp.asarray(steps.action[number, step, 0][alive])
            draw_maze(panels[row, number], maze, places(maze, actions))
            panels[row, number].set_title(f"{when}: {alive.sum()} steps", fontsize=9)
    save_and_close(figure, to / "adaptation.png")


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


def _trials(task: Task, count: int) -> Trial:
    sampler = task.episodes("test", 1)
    return once(lambda key: sampler(key, count))(jax.random.key(0))


def _per_step(learner: Learner, meta: PyTree, trials: Trial, measure: Any) -> Any:
    """`measure(agent, trial)` after each step, `[trials, steps, ...]`, in numpy."""

    def one(meta: PyTree, trial: Trial) -> PyTree:
        path = learner.trajectory(meta, trial.support)
        return jax.lax.map(lambda agent: measure(agent, trial), path)

    return jax.device_get(once(jax.vmap(one, (None, 0)))(meta, trials))
