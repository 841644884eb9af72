"""Predictions for examples whose labels are known, each made without its own label."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.data.sampling import StagedSampler
from metajax.data.staging import draw_and_fetch
from metajax.labelling.learner import PerQueryLearner
from metajax.types import Array, Batch, PyTree, Sampler

SHOTS = 50  # support examples of a class in validation tasks, at most
QUERIES = 3  # of a class in a validation task
PREDICTIONS, FEWEST_TASKS = 600, 10  # of all validation tasks together, at least


class Predictions(NamedTuple):
    """Predictions for examples whose labels are known.

    Attributes:
      logits: `float[n, classes]`.
      labels: `int[n]`.
    """

    logits: np.ndarray
    labels: np.ndarray

    def correct(self) -> np.ndarray:
        """Whether the largest logit is that of the label, `bool[n]`."""
        return np.argmax(self.logits, axis=1) == self.labels


def leave_one_out(
    learner: PerQueryLearner, meta: PyTree, support: Batch, *, most: int | None = None
) -> Predictions:
    """Predicts support examples, one of each class at a time, from the others.

      ẑ_kj = predict(adapt(θ, support without x_1j, ..., x_Kj), x_kj)

    Leaving out one example of each class keeps the classes as even as they were.
    Leaving out a single example makes its class the smallest, which counts against that
    class in learners with a head: MAML then predicted 12 % correctly, of five classes
    of two shots, and more than half of other drawings of those classes. A class of one
    example keeps it.

    Args:
      learner: the learner.
      meta: its meta-parameters θ.
      support: inputs `float[n, ...]` and labels `int[n]`.
      most: the largest number of adaptations; `learner.folds` by default. There are as
        many as the largest class has examples, if that is less; smaller classes are
        repeated, and counted once.

    Returns:
      `Predictions` for the examples that were left out; there may be none.

    >>> import metajax as mj
    >>> learner = mj.learners.prototypical(mj.conv4(2, 4).parts[0], ways=2)
    >>> support = Batch(jnp.ones((3, 28, 28, 1)), jnp.array([0, 0, 1]))
    >>> meta = learner.init(jax.random.key(0))
    >>> leave_one_out(PerQueryLearner(learner, 2), meta, support).labels.tolist()
    [0, 0]

    Source: Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions",
    Journal of the Royal Statistical Society B, 1974.
    """
    most = check_count("most", learner.folds if most is None else most, least=1)
    labels = np.asarray(support.targets)
    out, first = _folds(labels, most)
    if not len(out):
        return Predictions(np.zeros((0, learner.classes), np.float32), labels[:0])
    rest = np.stack([np.setdiff1d(np.arange(len(labels)), rows) for rows in out])
    logits = _predict_left_out(
        learner, meta, support, jnp.asarray(out), jnp.asarray(rest)
    )
    return Predictions(np.asarray(logits)[first], labels[out[first]])


def left_out_rows(labels: np.ndarray, *, most: int) -> np.ndarray:
    """Which examples the predictions of `leave_one_out` are for, in their order.

    Args:
      labels: of the support set, `int[n]`.
      most: see there.

    >>> left_out_rows(np.array([0, 0, 1]), most=9).tolist()
    [0, 1]
    """
    out, first = _folds(labels, most)
    return out[first]


def _folds(labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Which examples are left out in each fold, and whether for the first time."""
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    members = [rows for rows in members if len(rows) > 1]
    if not members:
        return np.zeros((0, 0), int), np.zeros((0, 0), bool)
    folds = min(most, max(map(len, members)))
    out = np.stack([[rows[j % len(rows)] for rows in members] for j in range(folds)])
    first = np.stack([[j < len(rows) for rows in members] for j in range(folds)])
    return out, first


@partial(jax.jit, static_argnums=0)
def _predict_left_out(
    learner: PerQueryLearner, meta: PyTree, support: Batch, out: Array, rest: Array
) -> Array:
    """`float[folds, classes left out, classes]`."""

    def fold(rows: tuple[Array, Array]) -> Array:
        left_out, others = rows
        adapted = learner.adapt(meta, jax.tree.map(lambda x: x[others], support))
        return learner.logits(adapted, support.inputs[left_out])

    return jax.lax.map(fold, (out, rest))


class ValidationTasks(NamedTuple):
    """Tasks of other classes, of the ways and shots of a labelled folder.

    Attributes:
      sampler: of episodes.
      tasks: how many.
      seed: from which they are drawn.
      rows: which support examples of each episode are taken, in which order; None for
        all of them.
    """

    sampler: Sampler
    tasks: int
    seed: int = 0
    rows: np.ndarray | None = None


def validation_tasks(
    sampler: Callable[[int, int, int], Sampler], shots: Sequence[int], *, seed: int = 0
) -> ValidationTasks:
    """Tasks like that of a labelled folder, with at most 50 shots a class.

    Args:
      sampler: `sampler(ways, shots, queries)`, of classes that the learner was not
        trained on.
      shots: the number of labelled images of each class of the folder.
      seed: of the tasks.

    Returns:
      At least 10 tasks, of at least 600 queries in all.

    >>> import metajax as mj
    >>> glyphs = partial(mj.data.glyphs, split="validation")
    >>> validation_tasks(glyphs, [3, 1]).tasks
    100
    """
    shots = [min(n, SHOTS) for n in shots]
    ways, most = len(shots), max(shots)
    tasks = max(FEWEST_TASKS, -(-PREDICTIONS // (QUERIES * ways)))
    rows = np.concatenate([k * most + np.arange(n) for k, n in enumerate(shots)])
    return ValidationTasks(
        sampler(ways, most, QUERIES), tasks, seed, rows[shuffled(len(rows))]
    )


def shuffled(count: int) -> np.ndarray:
    """The same permutation of 0, ..., count - 1 at each call.

    Support sets are shuffled by it, for learners that read them in order.
    """
    return np.random.default_rng(0).permutation(count)


def predict_tasks(
    learner: PerQueryLearner, meta: PyTree, tasks: ValidationTasks
) -> Predictions:
    """Predicts the queries of tasks, each query by itself.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      tasks: the tasks, of which one is made at a time.

    Returns:
      `Predictions` for the queries of all tasks, task by task.
    """
    fetched, sampler = draw_and_fetch(
        tasks.sampler, jax.random.key(tasks.seed), tasks.tasks
    )
    logits, labels = map(
        np.asarray, _predict_each(learner, meta, sampler, fetched, tasks.rows)
    )
    return Predictions(logits.reshape(labels.size, -1), labels.reshape(-1))


@partial(jax.jit, static_argnums=0)
def _predict_each(
    learner: PerQueryLearner,
    meta: PyTree,
    sampler: StagedSampler,
    fetched: PyTree,
    rows: Array | None,
) -> tuple[Array, Array]:
    def predict_one(task: PyTree) -> tuple[Array, Array]:
        batch = sampler.make(jax.tree.map(lambda x: x[None], task))
        support, query = jax.tree.map(lambda x: x[0], batch)
        if rows is not None:
            support = jax.tree.map(lambda x: x[rows], support)
        adapted = learner.adapt(meta, support)
        return learner.logits(adapted, query.inputs), query.targets

    return jax.lax.map(predict_one, fetched)
