"""Scenes with what is outlined or detected in them, drawn."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np

from metajax.data.checking import one_task
from metajax.data.staging import staged
from metajax.detection import Detections
from metajax.experiments.figures import query_outputs, save_and_close
from metajax.experiments.tasks import Task
from metajax.losses import UNLABELLED
from metajax.study.plots.style import BLUE, GREEN, ORANGE, RED
from metajax.types import Episode, Learner, PyTree

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import to_rgba_array  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

SHOWN = 6  # scenes
CERTAIN = 0.3  # scores of the detections that are drawn, at least
GREY = 0.5, 0.5, 0.5  # of pixels without a label
COLOURS = GREEN, ORANGE, BLUE, RED


def draw_masks(
    task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
) -> None:
    """Draws scenes, the masks that are right and the masks that are predicted."""
    episode, outputs = _predicted(task, learner, meta, queries)
    guesses = np.argmax(outputs, -1)
    figure, panels = _panels(episode, ("scene", "truth", "prediction"))
    for k, (scene, truth, guess) in enumerate(
        zip(episode.query.inputs, episode.query.targets, guesses)
    ):
        if k < SHOWN:
            _show(panels[0, k], scene)
            _show(panels[1, k], _coloured(truth))
            _show(panels[2, k], _coloured(guess))
    save_and_close(figure, to / "adaptation.png")


def draw_boxes(
    task: Task,
    learner: Learner,
    meta: PyTree,
    *,
    queries: int,
    to: Path,
    decode: Callable[[Any], Detections],
) -> None:
    """Draws scenes with the boxes that are right, and with those that are predicted.

    Those of a score below 0.3 are left out.
    """
    episode, outputs = _predicted(task, learner, meta, queries)
    detections = jax.device_get(decode(outputs))
    truth: Any = episode.query.targets
    figure, panels = _panels(episode, ("truth", "detections"))
    for k, scene in enumerate(episode.query.inputs[:SHOWN]):
        for row in range(2):
            _show(panels[row, k], scene)
        for n in np.flatnonzero(truth.present[k]):
            _frame(panels[0, k], truth.corners[k, n], int(truth.labels[k, n]))
        certain = detections.scores[k] >= CERTAIN
        for n in np.flatnonzero(detections.present[k] & certain):
            name = f"{detections.scores[k, n]:.2f}"
            label = int(detections.labels[k, n])
            _frame(panels[1, k], detections.corners[k, n], label, name)
    save_and_close(figure, to / "adaptation.png")


def _predicted(
    task: Task, learner: Learner, meta: PyTree, queries: int
) -> tuple[Episode, Any]:
    """An episode and the outputs for its queries, in NumPy."""
    episode = jax.device_get(one_task(staged(task.episodes("test", queries))))
    return episode, query_outputs(learner, meta, episode)


def _panels(episode: Episode, names: Sequence[str]) -> tuple[Any, Any]:
    """A figure of the support images, and its panels of queries `[names, queries]`."""
    support, scenes = episode.support.inputs, episode.query.inputs
    count = min(SHOWN, len(scenes))
    figure = plt.figure(figsize=(1.2 + 1.5 * count, 1.6 * len(names)), dpi=130)
    sides: Any = figure.subfigures(1, 2, width_ratios=[1, 1.5 * count])
    left, right = sides
    shown = support[:4]
    for k, axes in enumerate(left.subplots(len(shown), 1, squeeze=False)[:, 0]):
        _show(axes, shown[k])
    left.suptitle("support", fontsize=8)
    panels = right.subplots(len(names), count, squeeze=False)
    for row, name in zip(panels, names):
        row[0].set_ylabel(name, fontsize=8)
    return figure, panels


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(np.clip(np.squeeze(image), 0, 1), cmap="gray")
    axes.set(xticks=[], yticks=[])


def _coloured(mask: np.ndarray) -> np.ndarray:
    """A colour for each class, on black; grey where there is no label."""
    colours = to_rgba_array(COLOURS)[:, :3]
    colours = np.concatenate([np.zeros((1, 3)), colours, [GREY]])
    index = np.where(mask == 0, 0, 1 + (mask - 1) % len(COLOURS))
    return colours[np.where(mask == UNLABELLED, len(colours) - 1, index)]


def _frame(axes: Axes, corners: np.ndarray, label: int, name: str = "") -> None:
    """A box, whose corners are edges of pixels."""
    left, top, right, bottom = corners - 0.5
    colour = COLOURS[label % len(COLOURS)]
    box = Rectangle((left, top), right - left, bottom - top, ec=colour, fc="none", lw=1)
    axes.add_patch(box)
    axes.text(left, top, name, color=colour, fontsize=5, va="bottom")
