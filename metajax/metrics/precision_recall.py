"""Precision and recall of the detections of all tasks, pooled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from metajax.errors import InputError
from metajax.metrics.intervals import enough_tasks, jackknife
from metajax.metrics.matching import Matches

RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
GROUPS = 100  # of tasks that the jackknife leaves out, at most


@dataclass(frozen=True)
class PooledPrecision:
    """The `finish` of `metajax.metrics.average_precision`.

    Attributes:
      classes: their number.
    """

    classes: int

    def __call__(self, records: Matches) -> tuple[np.ndarray, np.ndarray]:
        """The values and intervals after each step, of leaves `[tasks, steps, ...]`.

        Raises:
          InputError: if a label is no class.
        """
        records = jax.tree.map(np.asarray, records)
        check_labels(records.unknown.sum(), self.classes)
        steps = range(records.objects.shape[1])
        values, intervals = zip(*(_value(records, k) for k in steps))
        return np.array(values), np.array(intervals)


def check_labels(unknown: Any, classes: int) -> None:
    """Checks that no label is that of no class.

    Args:
      unknown: how many are.
      classes: the number of classes.

    Raises:
      InputError: if there are any.

    >>> check_labels(0, 3)
    """
    if unknown:
        raise InputError(
            f"average_precision of {classes} classes needs labels in 0..{classes - 1}, "
            f"got {unknown} others; give it the number of classes"
        )


def interpolated_precision(ranks: np.ndarray, objects: float) -> float:
    """COCO's average precision of one class at one threshold.

      AP = 1/101 Σ_r max { k / ranks_k : k / objects ≥ r },   r = 0, 0.01, ..., 1

    and 0 where no k is. Between two right detections precision only falls, so those
    that are right suffice.

    Args:
      ranks: of the right detections k = 1, 2, ..., among all by falling score, from 1:
        `int[right]`, rising.
      objects: how many there are.

    Returns:
      The precision, in [0, 1].

    >>> interpolated_precision(np.array([1, 4]), 2)  # 51 recalls of 1, 50 of 1/2
    0.7524752475247525

    Source: pycocotools, `COCOeval.accumulate`.
    """
    right = np.arange(1, len(ranks) + 1)
    highest = np.maximum.accumulate((right / ranks)[::-1])[::-1]
    places = np.searchsorted(right / objects, RECALLS)
    return float(highest[places[places < len(ranks)]].sum() / len(RECALLS))


def _value(records: Matches, k: int) -> tuple[float, float]:
    """The value after k steps, and its half-width."""
    step = jax.tree.map(lambda x: x[:, k], records)
    if np.isnan(np.asarray(step.scores[step.counted], float)).any():
        return np.nan, np.nan  # an adaptation that diverges is a result too
    tasks, classes = step.objects.shape
    groups = np.arange(tasks) * min(tasks, GROUPS) // tasks
    each = np.stack([_of_class(step, c, groups) for c in range(classes)])
    there = ~np.isnan(each)
    with np.errstate(invalid="ignore"):  # where no class has objects
        values = np.where(there, each, 0).sum(axis=0) / there.sum(axis=0)
    enough = enough_tasks(np.asarray(step.objects))
    interval = jackknife(values[1:]) if enough else np.nan
    return float(values[0]), float(interval)


def _of_class(step: Matches, label: int, groups: np.ndarray) -> np.ndarray:
    """The value of all tasks, and those without each group: `[1 + groups]`."""
    chosen = step.counted & (step.labels == label)
    order = np.argsort(-np.asarray(step.scores[chosen], float), kind="stable")
    of_group = np.broadcast_to(groups[:, None, None], chosen.shape)[chosen][order]
    hits = [np.flatnonzero(right) for right in step.matched[chosen][order].T]
    objects = np.bincount(groups, weights=step.objects[:, label])
    everything = _mean_precision(np.ones(len(order), bool), hits, objects.sum())
    without = [
        _mean_precision(of_group != group, hits, objects.sum() - objects[group])
        for group in range(len(objects))
    ]
    return np.array([everything, *without])


def _mean_precision(
    kept: np.ndarray, hits: Sequence[np.ndarray], objects: float
) -> float:
    """The mean over thresholds, of the detections that are kept; NaN of no objects."""
    if not objects:
        return np.nan
    ranks = np.cumsum(kept)
    right = (ranks[places[kept[places]]] for places in hits)
    return float(np.mean([interpolated_precision(each, objects) for each in right]))
