"""Mean intersection over union, of segmentation."""

import operator
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.metrics.intervals import jackknife
from metajax.metrics.labels import present_labels
from metajax.metrics.metric import Metric, percent
from metajax.ops.masking import never
from metajax.types import Array, Padded

LEAST_TASKS = 10  # of each class, for an interval


class Overlap(NamedTuple):
    """What a task contributes: numbers of elements, such as pixels.

    Attributes:
      intersection: labelled and predicted as the class, `int32[classes]`.
      union: labelled or predicted as the class, `int32[classes]`.
      unknown: labelled as no class that there is, `int32`.
    """

    intersection: Array
    union: Array
    unknown: Array


def mean_iou(classes: int, *, ignore: int | None = None) -> Metric:
    """Mean intersection over union, with each class summed over all tasks.

      IoU_c = Σ_tasks |labelled c and predicted c| / Σ_tasks |labelled c or predicted c|

    and the mean over the classes c of which there is a union. Outputs of a task are
    logits `float[examples, ..., classes]`, its targets labels `int[examples, ...]`, or
    `Padded` of them. A label is a class of the data, the same one in all tasks. Two
    other numbers go by similar names, the IoU of each image or task, averaged, and that
    of foreground and background: do not compare them.

    The interval is a jackknife over tasks (see `metajax.metrics.jackknife`), which is
    too narrow where a class is in few tasks. It is NaN where the effective number of
    tasks of a class is below 10, (Σ u)² / Σ u² over the unions u of the class in each
    task (Kish): at 10 to 15, intervals of one class held the truth in 89 to 94 % of
    simulated evaluations, at 3 to 5 in 83 to 87 %.

    Args:
      classes: the number of classes, background included.
      ignore: the label of elements that do not count, such as 255.

    Returns:
      A `Metric`. Its `finish` raises InputError for labels that are no class.

    Raises:
      InputError: if there are fewer than 2 classes.

    >>> from metajax.metrics import mean_iou
    >>> metric = mean_iou(2)
    >>> logits = jnp.array([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    >>> metric.of_task(logits, jnp.array([[1, 0, 0]])).union.tolist()
    [2, 2]

    Source: Shaban et al., "One-Shot Learning for Semantic Segmentation", BMVC 2017, who
    sum each class over episodes. Kish, "Survey Sampling", 1965.
    """
    check_count("classes", classes, least=2)
    count = _Count(classes, ignore)
    return Metric("mean_iou", count, _finish, operator.gt, percent, "%")


@dataclass(frozen=True)
class _Count:
    """Counts the elements of one task; equal for equal settings, so compiled once."""

    classes: int
    ignore: int | None

    def __call__(self, outputs: Array, targets: Array | Padded) -> Overlap:
        labels, present, allowed = present_labels("mean_iou", targets)
        if outputs.shape != (*labels.shape, self.classes):
            raise InputError(
                f"mean_iou needs outputs of shape {(*labels.shape, self.classes)} for "
                f"{self.classes} classes and these targets, got {outputs.shape}"
            )
        if allowed is not None:  # of an example, whatever the axes between
            between = [1] * (labels.ndim - 1)
            allowed = allowed.reshape(len(allowed), *between, -1)
            outputs = jnp.where(allowed, outputs, never(outputs.dtype))
        counted = present.reshape(-1, *[1] * (labels.ndim - 1))
        if self.ignore is not None:
            counted = counted & (labels != self.ignore)
        known = counted & (labels >= 0) & (labels < self.classes)
        unknown = (counted & ~known).sum()
        if isinstance(unknown, np.integer):  # the targets are at hand
            _check_known(unknown, self.classes)
        classes = jnp.arange(self.classes).reshape(-1, *[1] * labels.ndim)
        labelled = (labels[None] == classes) & known[None]
        predicted = (jnp.argmax(outputs, axis=-1)[None] == classes) & known[None]
        sizes = (_sizes(labelled & predicted), _sizes(labelled | predicted))
        return Overlap(*sizes, jnp.asarray(unknown, jnp.int32))


def _sizes(members: Array) -> Array:
    """The number of elements of each class."""
    return jnp.sum(members.reshape(len(members), -1), axis=1, dtype=jnp.int32)


def _finish(records: Overlap) -> tuple[np.ndarray, np.ndarray]:
    intersection, union, unknown = (np.asarray(x, np.int64) for x in records)
    _check_known(unknown.sum(), union.shape[-1])
    both, either = intersection.sum(axis=0), union.sum(axis=0)
    without = _mean_ratio(both - intersection, either - union)
    squares = (union.astype(float) ** 2).sum(axis=0)
    enough = (either.astype(float) ** 2 >= LEAST_TASKS * squares).all(axis=-1)
    return _mean_ratio(both, either), np.where(enough, jackknife(without), np.nan)


def _mean_ratio(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """The mean over classes, the last axis, that have a union; NaN if none has."""
    there = union > 0
    ratios = np.where(there, intersection / np.maximum(union, 1), 0.0)
    with np.errstate(invalid="ignore"):
        return ratios.sum(axis=-1) / there.sum(axis=-1)


def _check_known(unknown: int | np.integer, classes: int) -> None:
    if unknown:
        raise InputError(
            f"mean_iou of {classes} classes needs labels in 0..{classes - 1}, got "
            f"{unknown} others; give it the number of classes, and ignore=LABEL for "
            "elements that do not count"
        )
