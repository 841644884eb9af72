"""What novelty labelled pictures ask for, and how well it tells strangers from them.

Each labelled picture is compared with the others of all classes, as a known picture
would be, and with those of other classes only, as a stranger would be: as if its own
class had been left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from metajax.labelling.novelty import Novelty, log_distances, thumbnails
from metajax.labelling.trust.calibration import share_interval
from metajax.metrics import auc
from metajax.metrics.ranking import Ranked
from metajax.types import Array, Batch

ROWS = 1000  # of the matrix of distances, at a time
RIDGE = 0.01  # on the slope


class LeftOut(NamedTuple):
    """Log-distances of labelled pictures to their nearest, each without itself.

    Attributes:
      known: to the nearest of all classes, `float[n]`; NaN for the only picture of a
        class.
      strange: to the nearest of the other classes, `float[n]`.
      labels: the class of each, `int[n]`.
    """

    known: np.ndarray
    strange: np.ndarray
    labels: np.ndarray

    def area(self) -> tuple[float, float, float]:
        """The area under the ROC curve of known against strange, and its interval.

        Classes are left out one at a time for the interval, which is no narrower than
        that of as many successes among the known pictures.

        Returns:
          The area, and the ends of its 95 % interval; NaN without known pictures.
        """
        count = int(np.isfinite(self.known).sum())
        if not count:
            return np.nan, np.nan, np.nan
        areas, halves = auc.finish(self._by_class())
        area, half = float(areas[0]), np.nan_to_num(float(halves[0]))
        low, high = share_interval(round(area * count), count)
        return area, max(0.0, min(low, area - half)), min(1.0, max(high, area + half))

    def _by_class(self) -> Ranked:
        """Each class as a task, of one step, of known and of strange pictures."""
        counts = np.bincount(self.labels)
        rows = [np.flatnonzero(self.labels == k) for k in np.flatnonzero(counts)]
        shape = len(rows), 2 * counts.max()
        scores, labels = np.zeros(shape), np.zeros(shape, np.int32)
        present = np.zeros(shape, bool)
        for i, own in enumerate(rows):
            values = np.concatenate([self.strange[own], self.known[own]])
            place = slice(len(values))
            scores[i, place], present[i, place] = values, np.isfinite(values)
            labels[i, : len(own)] = 1
        kept = np.where(present, scores, 0.0)
        scores, labels, present = (
            jnp.asarray(x[:, None]) for x in (kept, labels, present)
        )
        return Ranked(scores, labels, present)


def left_out(references: Array, labels: np.ndarray) -> LeftOut:
    """The log-distances of labelled pictures, see `LeftOut`.

    Args:
      references: their `thumbnails`, `float[n, features]`.
      labels: the class of each, `int[n]`, at least two classes.
    """
    known, strange = [], []
    for start in range(0, len(labels), ROWS):
        rows = np.arange(start, min(start + ROWS, len(labels)))
        distances = np.array(log_distances(references[rows], references), float)
        same = labels[rows][:, None] == labels[None]
        strange.append(np.where(same, np.inf, distances).min(axis=1))
        distances[np.arange(len(rows)), rows] = np.inf
        known.append(distances.min(axis=1))
    counts = np.bincount(labels)
    known, strange = np.concatenate(known), np.concatenate(strange)
    return LeftOut(np.where(counts[labels] > 1, known, np.nan), strange, labels)


def fit_novelty(references: Array, distances: LeftOut) -> Novelty:
    """The novelty that labelled pictures ask for, by Platt's logistic regression.

      min -Σ_known log(1 - p(d)) / n_known - Σ_strange log p(d) / n_strange

    Labels are smoothed by Platt's rule, so that few pictures ask for no certainty.
    Where each class has one picture, nothing is known of known pictures: the middle is
    the median distance to another class, and the slope that of their spread.

    Args:
      references: the `thumbnails` of the labelled pictures.
      distances: see `left_out`.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999; Sun et
    al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022.
    """
    known = distances.known[np.isfinite(distances.known)]
    strange = distances.strange
    if not len(known):
        spread = max(float(np.std(strange)), 0.1)
        return Novelty(references, 1.7 / spread, float(np.median(strange)))
    x = np.concatenate([known, strange])
    targets = np.repeat(
        [1 / (len(known) + 2), (len(strange) + 1) / (len(strange) + 2)],
        [len(known), len(strange)],
    )
    weights = np.repeat([1 / len(known), 1 / len(strange)], [len(known), len(strange)])
    centre = float(x.mean())

    def loss(params: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = params
        z = slope * (x - centre) + offset
        value = np.sum(weights * (np.logaddexp(0, z) - targets * z))
        slopes = weights * (expit(z) - targets)
        gradient = np.array([np.sum(slopes * (x - centre)), np.sum(slopes)])
        gradient[0] += 2 * RIDGE * slope
        return float(value + RIDGE * slope**2), gradient

    bounds = [(0.1, None), (None, None)]  # farther is never less strange
    slope, offset = minimize(loss, (1.0, 0.0), jac=True, bounds=bounds).x
    middle = float(centre - offset / slope)
    usual, (_, low, _) = float(np.mean(known > middle)), distances.area()
    return Novelty(references, float(slope), middle, usual, low)


def learn_novelty(support: Batch) -> tuple[Novelty, tuple[str, ...]]:
    """The novelty that labelled pictures ask for, and how well it tells strangers.

    Args:
      support: the inputs of the labelled pictures, and their labels.

    Returns:
      The `Novelty`, as float32, and what to expect of it, in sentences.
    """
    references = jax.jit(thumbnails)(support.inputs)
    distances = left_out(references, np.asarray(support.targets))
    novelty = fit_novelty(references, distances)
    numbers = (jnp.float32(value) for value in novelty[1:])
    return Novelty(references, *numbers), (describe(distances, novelty),)


def describe(distances: LeftOut, novelty: Novelty) -> str:
    """How well pictures of other classes are told apart, in a sentence."""
    classes = len(np.unique(distances.labels))
    area, low, high = distances.area()
    if np.isnan(area):
        return (
            "pictures of none of the classes: one picture a class says nothing of how "
            "far its own class reaches, so novelty above 0.5 only means farther from "
            "all labelled pictures than half of these are from each other"
        )
    caught = np.mean(distances.strange > float(novelty.middle))
    few = (
        "; that rests on two classes, each strange to the other, and says little"
        if classes == 2
        else ""
    )
    return (
        f"pictures of none of the classes: AUROC {100 * area:.0f} % (95 % interval "
        f"{100 * low:.0f} to {100 * high:.0f}; 50 is a guess) of novelty, by leaving "
        f"out each of {classes} classes in turn; above 0.5 are {100 * caught:.0f} % of "
        f"strangers, and {100 * float(novelty.usual):.0f} % of pictures of the "
        f"classes{few}"
    )
