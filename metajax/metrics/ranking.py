"""The metric `auc`: the area under the ROC curve, over the examples of all tasks.

  AUC = P(s⁺ > s⁻) + ½ P(s⁺ = s⁻),   over all pairs of a positive and a negative

Outputs of a task are scores `float[n]` or `float[n, 1]`, or logits `float[n, 2]` of
two classes, whose difference z_1 - z_0 is the score; its targets are labels `int[n]`, 1
for positive and 0 for negative, or `Padded` of them. Pairs of different tasks count, so
scores must be comparable among tasks. NaN where a class has no examples, or a score is
NaN.

The interval is a jackknife over tasks (see `metajax.metrics.jackknife`), as examples of
a task depend on each other. It is NaN where the area is, and where one task has all
examples of a class: nothing says then how the area varies among tasks.

>>> scores, labels = jnp.array([0.9, 0.4, 0.6]), jnp.array([1, 0, 0])
>>> records = [np.asarray(x)[None, None] for x in auc.of_task(scores, labels)]
>>> auc.finish(Ranked(*records))[0].tolist()  # of one task, after one step
[1.0]

Source: Hanley and McNeil, "The Meaning and Use of the Area under a ROC Curve",
Radiology, 1982; Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data",
Biometrics, 1997, for clusters.
"""

import operator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.metrics.intervals import jackknife
from metajax.metrics.labels import present_labels
from metajax.metrics.metric import Metric
from metajax.types import Array, PyTree


class Ranked(NamedTuple):
    """What a task contributes: its examples.

    Attributes:
      scores: higher for what looks positive, `float[examples]`.
      labels: 1 for positive and 0 for negative, `int32[examples]`.
      present: which are no padding, `bool[examples]`.
    """

    scores: Array
    labels: Array
    present: Array


def _of_task(outputs: Array, targets: PyTree) -> Ranked:
    labels, present, _ = present_labels("auc", targets)
    of_two = outputs.shape == (*labels.shape, 2)
    if labels.ndim != 1 or not (of_two or outputs.size == labels.size):
        raise InputError(
            f"auc needs labels of shape [n] and outputs [n], [n, 1] or [n, 2], got "
            f"labels {labels.shape} and outputs {outputs.shape}"
        )
    scores = outputs[:, 1] - outputs[:, 0] if of_two else outputs.reshape(-1)
    if isinstance(labels, np.ndarray) and isinstance(present, np.ndarray):
        _check_binary(labels[present])
    return Ranked(scores, jnp.asarray(labels, jnp.int32), jnp.asarray(present))


def _finish(records: Ranked) -> tuple[np.ndarray, np.ndarray]:
    scores, labels, present = map(np.asarray, records)
    _check_binary(labels[present])
    steps = range(scores.shape[1])
    areas = [_area(scores[:, k], labels[:, k], present[:, k]) for k in steps]
    values, intervals = zip(*areas)
    return np.array(values), np.array(intervals)


def _area(
    scores: np.ndarray, labels: np.ndarray, present: np.ndarray
) -> tuple[float, float]:
    """The area and its half-width, of `[tasks, examples]`."""
    positive, negative = present & (labels == 1), present & (labels == 0)
    if np.isnan(scores[present]).any():  # an adaptation that diverges is a result too
        return np.nan, np.nan
    wins, losses = np.zeros(scores.shape), np.zeros(scores.shape)
    wins[positive] = _below(scores[positive], scores[negative])
    losses[negative] = positive.sum() - _below(scores[negative], scores[positive])
    own = [_below(s[p], s[n]).sum() for s, p, n in zip(scores, positive, negative)]
    # Without a task: no pairs with its positives, nor with its negatives.
    wins_without = wins.sum() - wins.sum(axis=1) - losses.sum(axis=1) + np.array(own)
    positives, negatives = positive.sum(axis=1), negative.sum(axis=1)
    pairs_without = (positives.sum() - positives) * (negatives.sum() - negatives)
    with np.errstate(invalid="ignore", divide="ignore"):  # of one class alone
        area = wins.sum() / np.float64(positives.sum() * negatives.sum())
        return area, float(jackknife(wins_without / pairs_without))


def roc_area(positive: np.ndarray, negative: np.ndarray) -> float:
    """The area under the ROC curve of scores, P(s⁺ > s⁻) + ½ P(s⁺ = s⁻).

    Args:
      positive: scores s⁺ of the positives, `float[n]`.
      negative: scores s⁻ of the negatives, `float[m]`.

    Returns:
      The area; NaN where a side is empty.

    >>> roc_area(np.array([0.9, 0.4]), np.array([0.4]))
    0.75
    """
    pairs = len(positive) * len(negative)
    return float(_below(positive, negative).sum() / pairs) if pairs else np.nan


def _below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of the others are below each score; one that is equal counts half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, "left")
    return (below + np.searchsorted(ordered, scores, "right")) / 2


def _check_binary(labels: Any) -> None:
    other = np.setdiff1d(labels, [0, 1])
    if other.size:
        raise InputError(
            f"auc needs labels 1 (positive) and 0 (negative), got {other[0]}; for more "
            "classes, give it the logit and the membership of one of them"
        )


auc = Metric("auc", _of_task, _finish, operator.gt)
