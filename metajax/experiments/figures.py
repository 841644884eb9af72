"""The two figures of a run."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import matplotlib
import numpy as np

from metajax.data.checking import once, one_task
from metajax.data.staging import staged
from metajax.experiments.tasks import Task
from metajax.metrics import Metric
from metajax.study.plots import save
from metajax.study.plots.style import BLUE, GREEN, ORANGE, RED
from metajax.types import Array, Batch, Episode, Learner, PyTree

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

SHOWN_TASKS, SHOWN_WAYS, SHOWN_QUERIES = 3, 5, 10
CURVE_POINTS = 200


def learning_curve(
    rows: Sequence[Mapping[str, Any]],
    metric: Metric,
    directory: Path,
    references: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Draws the metric against meta-steps, training and validation, with intervals.

    Values to hold it against are lines across.
    """
    named = metric.name, f"{metric.name}_interval"
    marker = "." if metric.better(1.0, 0.0) else None
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for split, colour in (("train", BLUE), ("validation", RED)):
        chosen = [r for r in rows if r.get("split") == split and {*named} <= {*r}]
        steps = np.array([row["step"] for row in chosen])
        mean, half = (
            np.array([_number(row[name]) for row in chosen]) for name in named
        )
        axes.plot(steps, mean, color=colour, label=split, marker=marker)
        axes.fill_between(
            steps, mean - half, mean + half, color=colour, alpha=0.2, lw=0
        )
    for name, value in references.items():
        axes.axhline(value, color="gray", ls="--", lw=1, label=name)
    _label(axes, metric)
    axes.grid(alpha=0.3)
    axes.legend(title="95 % interval shaded")
    save_and_close(figure, directory / "learning_curve.png")


def _label(axes: Axes, metric: Metric) -> None:
    """Names both axes; a metric that falls, as losses do, may span orders."""
    unit = f" ({metric.unit})" if metric.unit else ""
    axes.set_xlabel("meta-steps")
    axes.set_ylabel(f"query {metric.name}{unit}")
    if not metric.better(1.0, 0.0):
        axes.set_yscale("log")
        return
    axes.yaxis.set_major_formatter(lambda value, _: metric.format(value))


def _number(value: Any) -> float:
    """NaN for what was not finite when it was written."""
    return value if isinstance(value, float) else np.nan


def draw_images(
    task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
) -> None:
    """Draws an episode of images with the predictions for at most `queries` a class."""
    # Of as many queries as are evaluated: that program is compiled.
    whole = jax.device_get(one_task(staged(task.episodes("test", queries))))
    episode = whole._replace(query=_first(whole.query, task.outputs))
    guesses = np.argmax(query_outputs(learner, meta, episode), axis=-1)
    _draw_episode(episode, guesses, task.outputs, to)


def query_outputs(learner: Learner, meta: PyTree, episode: Episode) -> Any:
    """What a learner predicts for the queries of an episode, in NumPy."""

    def predicted(meta: PyTree, episode: Episode) -> PyTree:
        adapted = learner.adapt(meta, episode.support)
        return learner.predict(adapted, episode.query.inputs)

    return jax.device_get(once(predicted)(meta, episode))


def _first(batch: Batch, ways: int) -> Batch:
    """The examples of each class that are shown."""
    shown = [_by_class(x, ways)[:, :SHOWN_QUERIES] for x in batch]
    return Batch(*(x.reshape(-1, *x.shape[2:]) for x in shown))


def draw_waves(task: Task, learner: Learner, meta: PyTree, *, to: Path) -> None:
    """Draws sine waves: the prior, what 1 and all steps make of it, and the truth."""
    waves = task.episodes("test", CURVE_POINTS)
    episodes = jax.device_get(
        once(lambda key: waves(key, SHOWN_TASKS))(jax.random.key(0))
    )
    drawn = once(jax.vmap(partial(_curves, learner), (None, 0)))(meta, episodes)
    figure, axes = plt.subplots(
        1, SHOWN_TASKS, figsize=(10, 3), sharey=True, layout="constrained"
    )
    for ax, of_task, *leaves in zip(
        axes, jax.device_get(drawn), *jax.tree.leaves(episodes)
    ):
        episode = jax.tree.unflatten(jax.tree.structure(episodes), leaves)
        _draw_wave(ax, of_task, episode)
    axes[0].set_ylabel("y")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5
    )
    save_and_close(figure, to / "adaptation.png")


def _curves(learner: Learner, meta: PyTree, episode: Episode) -> Array:
    """The predictions for the queries after each step."""
    path = learner.trajectory(meta, episode.support)
    return jax.vmap(learner.predict, (0, None))(path, episode.query.inputs)


def _draw_wave(ax: Axes, curves: np.ndarray, episode: Episode) -> None:
    order = np.argsort(episode.query.inputs[:, 0])
    x, truth = episode.query.inputs[order], episode.query.targets[order]
    curves, last = curves[:, order], len(curves) - 1
    ax.plot(x, truth, color="black", lw=2, alpha=0.4, label="truth")
    styles = {0: (":", ORANGE), min(1, last): ("--", GREEN), last: ("-", BLUE)}
    for steps, (line, colour) in styles.items():
        label = (
            "before adapting"
            if steps == 0
            else f"after {steps} step" + "s" * (steps > 1)
        )
        ax.plot(x, curves[steps], line, color=colour, label=label)
    ax.plot(*episode.support, "^", color="black", ms=5, label="support")
    ax.set_xlabel("x")


def _draw_episode(
    episode: Episode, predicted: np.ndarray, ways: int, directory: Path
) -> None:
    shown = min(ways, SHOWN_WAYS)
    support, queries = (_by_class(b.inputs, ways) for b in episode)
    guesses = predicted.reshape(ways, -1)
    columns = 1 + queries.shape[1]
    figure, axes = plt.subplots(
        shown,
        columns,
        figsize=(0.8 * columns, 0.95 * shown),
        layout="constrained",
        squeeze=False,
    )
    for row in range(shown):
        _show(axes[row, 0], support[row, 0], f"class {row}", BLUE)
        for image, guess, ax in zip(queries[row], guesses[row], axes[row, 1:]):
            right = int(guess) == row
            _show(ax, image, f"→ {guess}", GREEN if right else RED, heavy=not right)
    share = 100 * np.mean(predicted == episode.query.targets)
    figure.suptitle(
        f"one support image a class (blue), and queries with their predictions: "
        f"{share:.0f} % right",
        fontsize=9,
    )
    save_and_close(figure, directory / "adaptation.png")


def _by_class(examples: Any, ways: int) -> Any:
    return examples.reshape(ways, -1, *examples.shape[1:])


def _show(
    ax: Axes, image: Array, title: str, colour: str, *, heavy: bool = False
) -> None:
    ax.imshow(np.squeeze(image), cmap="gray_r")
    ax.set_title(title, fontsize=7, color=colour, weight="bold" if heavy else "normal")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color=colour, linewidth=2.5 if heavy else 1)


def save_and_close(figure: Any, path: Path) -> None:
    """Writes a figure, which is closed whatever happens."""
    try:
        save(figure, path)
    finally:
        plt.close(figure)
