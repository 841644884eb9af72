"""A map of tasks: points as far from each other as the tasks' vectors are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.metrics.intervals import Z95, jackknife
from metajax.metrics.ranking import roc_area
from metajax.study.named import Named
from metajax.study.task_vectors import task2vec, task_distances
from metajax.types import Batch, Learner, PyTree


class TaskMap(NamedTuple):
    """Distances of tasks, and their points on a plane.

    Attributes:
      groups: the group of each task.
      distances: between two tasks, `[task, other]`; see `task_distances`.
      places: the points, `[task, axis]`; see `classical_scaling`.
      shares: of the squared distances, what each axis shows.
      nearer: how often two tasks of one group are nearer than two of different groups,
        the area under the ROC curve; NaN without such pairs.
      interval: half the width of its 95 % confidence interval, by leaving out one group
        at a time; NaN of fewer than three groups.
    """

    groups: tuple[str, ...]
    distances: Named
    places: Named
    shares: np.ndarray
    nearer: float
    interval: float


def task_map(
    learner: Learner, meta: PyTree, tasks: Batch, groups: Sequence[str]
) -> TaskMap:
    """A map of tasks by what a probe finds informative in each.

    Args:
      learner: the probe, see `task2vec`.
      meta: its meta-parameters.
      tasks: the examples of each task, with a leading axis of tasks; as
        `metajax.data.grouped_tasks` makes them.
      groups: of each task, such as an alphabet.

    Returns:
      A `TaskMap`, on the host.

    Raises:
      InputError: see `task2vec` and `task_distances`; if there are not as many groups
        as tasks, or fewer than two tasks.

    >>> import jax, metajax as mj
    >>> learner = mj.prototypical(mj.mlp(2, (8,), 4), ways=3)
    >>> inputs = jax.random.normal(jax.random.key(0), (4, 6, 2))
    >>> tasks = Batch(inputs, np.tile(np.arange(3), (4, 2)))
    >>> result = task_map(learner, learner.init(jax.random.key(1)), tasks, "aabb")
    >>> result.places.values.shape
    (4, 2)

    Source: Achille et al., "Task2Vec", ICCV 2019.
    """
    check_count("the tasks of a map", len(groups), least=2)
    distances = task_distances(task2vec(learner, meta, tasks))
    if len(distances) != len(groups):
        raise InputError(
            f"expected a group of each task, got {len(groups)} groups of "
            f"{len(distances)} tasks"
        )
    places, shares = classical_scaling(distances)
    nearer, interval = group_area(distances, groups)
    return TaskMap(
        tuple(groups),
        Named(distances, ("task", "other")),
        Named(places, ("task", "axis")),
        shares,
        nearer,
        interval,
    )


def classical_scaling(
    distances: np.ndarray, axes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Points whose distances are near to given ones: classical scaling.

      B = -½ J D² J = V Λ Vᵀ,   J = I - 1/n,   points V Λ^½ of the largest λ

    Points whose distances are those of a plane are found exactly, but for how they are
    turned; of each axis, the largest coordinate is positive.

    Args:
      distances: D, symmetric, `float[n, n]`.
      axes: the number of coordinates.

    Returns:
      The points `float64[n, axes]`; and what each axis shows of the squared distances,
      λ / Σ |λ|.

    >>> line = np.array([0.0, 1.0, 3.0])
    >>> points, shares = classical_scaling(abs(line[:, None] - line[None]), axes=1)
    >>> (points[:, 0] - points[0, 0]).round(6).tolist(), shares.round(6).tolist()
    ([0.0, 1.0, 3.0], [1.0])

    Source: Torgerson, "Multidimensional Scaling: I. Theory and Method", Psychometrika,
    1952.
    """
    squared = np.asarray(distances, np.float64) ** 2
    centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-(centred + centred.T) / 4)
    total = np.abs(values).sum()
    values, vectors = values[::-1][:axes], vectors[:, ::-1][:, :axes]
    points = vectors * np.sqrt(np.maximum(values, 0))
    largest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    points = points * np.where(largest < 0, -1, 1)
    return points, np.maximum(values, 0) / (total if total > 0 else 1)


def group_area(distances: np.ndarray, groups: Sequence[str]) -> tuple[float, float]:
    """How often two tasks of one group are nearer than two of different groups.

      A = P(d_same < d_other) + ½ P(d_same = d_other)

    Args:
      distances: symmetric, `float[tasks, tasks]`.
      groups: of each task.

    Returns:
      A, ½ for distances that do not know the groups; and half the width of its 95 %
      confidence interval, a jackknife over groups with Student's t of as many degrees
      of freedom as groups but one. NaN where there are no such pairs, or fewer than
      three groups.

    >>> line = np.array([0.0, 1.0, 5.0, 6.0, 10.0, 11.0])
    >>> group_area(abs(line[:, None] - line[None]), "aabbcc")
    (1.0, 0.0)
    """
    own = np.array(list(groups))
    names = np.unique(own)
    whole = _area(distances, own)
    without = [_area(distances[own != g][:, own != g], own[own != g]) for g in names]
    if len(names) < 3:
        return whole, np.nan
    student = stdtrit(len(names) - 1, 0.975) / Z95
    return whole, float(student * jackknife(np.array(without)))


def _area(distances: np.ndarray, own: np.ndarray) -> float:
    pairs = np.triu_indices(len(own), 1)
    same = (own[:, None] == own[None])[pairs]
    nearness = -distances[pairs]
    return roc_area(nearness[same], nearness[~same])
