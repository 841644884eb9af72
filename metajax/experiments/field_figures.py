"""Images that were fitted as functions of coordinates, drawn."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from metajax.data import pixel_coordinates
from metajax.data.checking import once
from metajax.data.staging import staged
from metajax.experiments.figures import save_and_close
from metajax.experiments.tasks import Task
from metajax.metrics import Metric
from metajax.study.plots.style import BLUE, ORANGE
from metajax.types import Array, Batch, Episode, Learner, PyTree

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

SHOWN_TASKS = 3
STARTS = {"learnt start": BLUE, "standard start": ORANGE}
Values = Callable[[Any], Any]


def as_they_are(side: Any) -> Any:
    """Outputs or targets that are values."""
    return side


class Panels(NamedTuple):
    """What is drawn of each of some tasks.

    Attributes:
      truth: the image, `[tasks, height, width, channels]`; NaN at pixels that are in
        neither set.
      support: the same with the support pixels alone.
      fields: after some numbers of steps from two starts,
        `[tasks, starts, steps, height, width, channels]`.
      scores: of the query pixels, `[tasks, starts, steps]`.
      steps: those numbers of steps.
    """

    truth: np.ndarray
    support: np.ndarray
    fields: np.ndarray
    scores: np.ndarray
    steps: Sequence[int]


def draw_fields(
    task: Task,
    learner: Learner,
    meta: PyTree,
    shape: tuple[int, int, int],
    *,
    to: Path,
    metric: Metric,
    values: Values = as_they_are,
) -> None:
    """Draws images, their support pixels, and fields after 0, 1, 2, 4, ... steps.

    From the learnt start, and below it from one that the learner would start from.

    Args:
      task: the task.
      learner: the learner.
      meta: its meta-parameters, learnt.
      shape: of an image: height, width, channels.
      to: the folder of the figure.
      metric: of the values of the query pixels.
      values: `values(outputs)`, and of targets, what is the image in them.
    """
    panels = fit_images(task, learner, meta, shape, values=values, metric=metric)
    rows, columns = 2 * len(panels.truth), 2 + len(panels.steps)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(1.1 * columns, 1.25 * rows),
        layout="constrained",
        squeeze=False,
    )
    for row, line in enumerate(axes):
        _draw_row(line, panels, *divmod(row, 2), metric.format)
    title = f"{metric.name.upper()} of query pixels in {metric.unit}, after inner steps"
    figure.suptitle(title, fontsize=9)
    save_and_close(figure, to / "adaptation.png")


def fit_images(
    task: Task,
    learner: Learner,
    meta: PyTree,
    shape: tuple[int, int, int],
    *,
    metric: Metric,
    values: Values = as_they_are,
) -> Panels:
    """Fits some test images from two starts; see `draw_fields`."""
    height, width, _ = shape
    pixels = height * width
    rest = pixels if task.support == pixels else pixels - task.support
    sampler, grid = staged(task.episodes("test", rest)), pixel_coordinates(*shape[:2])

    def fit(meta: PyTree, episode: Episode) -> tuple[Array, Array]:
        path = learner.trajectory(meta, episode.support)
        outputs = jax.vmap(learner.predict, (0, None))
        images = values(outputs(path, grid))
        guesses = values(outputs(path, episode.query.inputs))
        truth = values(episode.query.targets)
        scores = jax.vmap(metric, (0, None))(guesses, truth)
        return images.reshape(-1, *shape), scores

    def both(meta: PyTree) -> tuple[Episode, Any]:
        tasks = sampler(jax.random.key(0), SHOWN_TASKS)
        standard = learner.init(jax.random.key(0))
        starts = jax.tree.map(lambda *x: jnp.stack(x), meta, standard)
        return tasks, jax.vmap(jax.vmap(fit, (0, None)), (None, 0))(starts, tasks)

    tasks, (fields, scores) = jax.device_get(once(both)(meta))
    steps = _powers(scores.shape[-1] - 1)
    support = _scattered(tasks.support, shape)
    rest = _scattered(tasks.query._replace(targets=values(tasks.query.targets)), shape)
    truth = np.where(np.isnan(support), rest, support)
    return Panels(truth, support, fields[:, :, steps], scores[..., steps], steps)


def _powers(last: int) -> list[int]:
    """0, 1, 2, 4, ..., and the last."""
    powers = [2**n for n in range(last.bit_length()) if 2**n < last]
    return sorted({0, *powers, last})


def _scattered(batch: Batch, shape: tuple[int, int, int]) -> np.ndarray:
    """Values at the pixels of their coordinates, NaN elsewhere."""
    height, width, channels = shape
    points, values = np.asarray(batch.inputs), np.asarray(batch.targets)
    columns, rows = (
        np.round((points[..., axis] + 1) * size / 2 - 0.5).astype(int)
        for axis, size in enumerate((width, height))
    )
    images = np.full((len(points), height, width, channels), np.nan, values.dtype)
    images[np.arange(len(points))[:, None], rows, columns] = values
    return images


def _draw_row(
    line: Sequence[Axes],
    panels: Panels,
    task: int,
    start: int,
    text: Callable[[float], str],
) -> None:
    """One task from one start."""
    truth = panels.truth[task]
    limits = float(np.nanmin(truth)), float(np.nanmax(truth))
    name, colour = list(STARTS.items())[start]
    _show(line[0], truth, limits, "image")
    _show(line[1], panels.support[task], limits, "support")
    line[0].set_ylabel(name, fontsize=7, color=colour)
    for ax, field, score, steps in zip(
        line[2:], panels.fields[task, start], panels.scores[task, start], panels.steps
    ):
        _show(ax, field, limits, f"{steps}: {text(score)}", colour)


def _show(
    ax: Axes,
    image: np.ndarray,
    limits: tuple[float, float],
    title: str,
    colour: str = "black",
) -> None:
    """An image whose missing pixels are grey."""
    ax.set_facecolor("lightgray")
    low, high = limits
    if image.shape[-1] == 1:
        ax.imshow(image[..., 0], cmap="gray_r", vmin=low, vmax=high)
    else:
        opaque = ~np.isnan(image[..., :1])
        ax.imshow(np.concatenate([np.clip(np.nan_to_num(image), 0, 1), opaque], -1))
    ax.set_title(title, fontsize=7, color=colour)
    ax.set(xticks=[], yticks=[])
