"""Labels for examples that have none, and how far to trust them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.data.staging import Drawn, to_drawn
from metajax.errors import InputError
from metajax.evaluation.scores import Z95
from metajax.losses import memberships
from metajax.types import Array, Batch, Episode, Learner, PyTree

FOLDS = 50  # times that one of each class is left out
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures
HALVINGS = 60  # of the range in which a temperature is looked for
WEIGHT = 30  # of other tasks' examples, in the task's own
TOGETHER = 8  # queries, each with a support set beside it, at a time


class Told(NamedTuple):
    """What was said of examples whose labels are known.

    Attributes:
      logits: `float[n, classes]`.
      labels: `int[n]`.
    """

    logits: np.ndarray
    labels: np.ndarray

    def right(self) -> np.ndarray:
        """Whether each was told right, `bool[n]`."""
        return np.argmax(self.logits, axis=1) == self.labels


class Alone(NamedTuple):
    """A learner that predicts each query as if there were no others.

    A network that settles on the support set, or mixes no examples, does so anyhow.
    Others are given each query beside the support set, at the cost of a pass over it.

    Attributes:
      learner: the learner.
      classes: the first of its outputs, which stand for a class.
      beside: whether a query needs the support set beside it.
    """

    learner: Learner
    classes: int
    beside: bool = False

    def adapt(self, meta: PyTree, support: Batch) -> PyTree:
        """What a support set teaches, and what of it queries need beside them."""
        kept = {"support": support.inputs} if self.beside else {}
        return {"adapted": self.learner.adapt(meta, support), **kept}

    def logits(self, taught: PyTree, queries: Array) -> Array:
        """`float[n, classes]` of queries `[n, ...]`, of each independently."""
        adapted = taught["adapted"]
        if not self.beside:
            return self.learner.predict(adapted, queries)[:, : self.classes]

        def one(query: Array) -> Array:
            inputs = jnp.concatenate([taught["support"], query[None]])
            return self.learner.predict(adapted, inputs)[-1, : self.classes]

        return jax.lax.map(one, queries, batch_size=TOGETHER)


def leave_one_out(
    alone: Alone, meta: PyTree, support: Batch, *, most: int = FOLDS
) -> Told:
    """Tells labels of support examples, one of each class at a time, from the others.

      ẑ_kj = predict(adapt(θ, support without x_1j, ..., x_Kj), x_kj)

    Leaving out one of each class keeps the classes as even as they were: one alone
    would leave its own class the smallest, which learners of a head take as a sign
    against it (12 % were told right so by MAML, of five classes of two shots, where
    more than half of other drawings were). A class of one example keeps it.

    Args:
      alone: the learner.
      meta: its meta-parameters θ.
      support: inputs `float[n, ...]` and labels `int[n]`.
      most: how many times; each is an adaptation. As often as the largest class has
        examples, if that is less; smaller ones are gone through again, and counted
        once.

    Returns:
      A `Told` of the examples that were left out; it may be empty.

    >>> import metajax as mj
    >>> learner = mj.learners.prototypical(mj.conv4(2, 4).parts[0], ways=2)
    >>> support = Batch(jnp.ones((3, 28, 28, 1)), jnp.array([0, 0, 1]))
    >>> meta = learner.init(jax.random.key(0))
    >>> leave_one_out(Alone(learner, 2), meta, support).labels.tolist()
    [0, 0]

    Source: Stone, "Cross-Validatory Choice and Assessment of Statistical Predictions",
    Journal of the Royal Statistical Society B, 1974.
    """
    check_count("most", most, least=1)
    labels = np.asarray(support.targets)
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    able = [rows for rows in members if len(rows) > 1]
    if not able:
        return Told(np.zeros((0, alone.classes), np.float32), labels[:0])
    times = min(most, max(map(len, able)))
    out = np.stack([[rows[j % len(rows)] for rows in able] for j in range(times)])
    rest = np.stack([np.setdiff1d(np.arange(len(labels)), rows) for rows in out])
    logits = _left_out(alone, meta, support, jnp.asarray(out), jnp.asarray(rest))
    first = np.stack([[j < len(rows) for rows in able] for j in range(times)])
    return Told(np.asarray(logits)[first], labels[out[first]])


@partial(jax.jit, static_argnums=0)
def _left_out(
    alone: Alone, meta: PyTree, support: Batch, out: Array, rest: Array
) -> Array:
    """`float[times, able classes, classes]`."""

    def one(rows: tuple[Array, Array]) -> Array:
        left_out, others = rows
        taught = alone.adapt(meta, jax.tree.map(lambda x: x[others], support))
        return alone.logits(taught, support.inputs[left_out])

    return jax.lax.map(one, (out, rest))


def tell_episodes(alone: Alone, meta: PyTree, episodes: Episode | Drawn) -> Told:
    """Tells the queries of episodes, each alone.

    Args:
      alone: the learner.
      meta: its meta-parameters.
      episodes: with a leading axis of tasks; or
        `metajax.data.staging.Drawn`, of which no more than one is made at a time.

    Returns:
      A `Told` of all queries of all tasks.
    """
    logits, labels = map(np.asarray, _told(alone, meta, to_drawn(episodes)))
    return Told(logits.reshape(labels.size, -1), labels.reshape(-1))


@partial(jax.jit, static_argnums=0)
def _told(alone: Alone, meta: PyTree, drawn: Drawn) -> tuple[Array, Array]:
    def one(task: PyTree) -> tuple[Array, Array]:
        batch = drawn.sampler.make(jax.tree.map(lambda x: x[None], task))
        episode = jax.tree.map(lambda x: x[0], batch)
        taught = alone.adapt(meta, episode.support)
        return alone.logits(taught, episode.query.inputs), episode.query.targets

    return jax.lax.map(one, drawn.tasks)


def temperature(own: Told, held: Told | None = None) -> float:
    """The temperature that makes confidences true, by maximum likelihood.

      p_T(x) = softmax(z / T)
      T = argmin_T -Σ_own log p_T(x_i)[y_i] - W/N Σ_held log p_T(x_j)[y_j]

    The task's own examples are few, and those of other tasks are of other classes: the
    N held ones weigh as much as W = 30 of its own. On alphabets that a prototypical
    network never saw, the expected calibration error of 5 classes of 2 shots was 4 %
    with both, 6 % with the held ones alone and 20 % with its own alone; of 10 classes
    of 3 shots 4, 7 and 14 %; of 30 of 1 to 10 shots 1, 4 and 2 % (and 4, 11 and 11 %
    with T = 1). Of MAML it helps less: `benchmarks/README.md`.

    Without any of other tasks, labels are smoothed by Platt's rule, [y_i = k] becoming
    (n+1)/(n+2), the rest shared by the other classes: a handful that are all told right
    would ask for T = 0, which is boundless confidence.

    The loss is convex in 1/T, and its derivative is bisected.

    Args:
      own: what was said of the task's labelled examples; it may be empty.
      held: the same of examples of other tasks like it.

    Returns:
      T; the order of the classes never depends on it.

    Raises:
      InputError: if there are no examples or one class, or a logit is not finite.

    >>> sure = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    >>> print(f"{temperature(Told(sure, np.array([0, 0, 1, 1]))):.1f}")
    13.0

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section
    4.2; Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.
    """
    parts = [(part, 1.0) for part in (own,) if len(part.labels)]
    spread = 1 / (len(own.labels) + 2)
    if held is not None and len(held.labels):
        parts.append((held, WEIGHT / len(held.labels)))
        spread = 0.0
    if not parts or not all(np.all(np.isfinite(part.logits)) for part, _ in parts):
        raise InputError(
            "a temperature needs examples, and finite logits of them; leave it at 1"
        )
    if own.logits.shape[1] < 2:
        raise InputError("a temperature needs at least 2 classes, got 1")
    terms = [
        (w, part.logits.astype(float), _smoothed(part, spread)) for part, w in parts
    ]

    def slope(inverse: float) -> float:
        """The derivative of the loss by 1/T."""
        return sum(w * np.sum((softmax(inverse * z) - q) * z) for w, z, q in terms)

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def _smoothed(told: Told, spread: float) -> np.ndarray:
    """Labels as probabilities, of which so much is shared by the other classes."""
    classes = told.logits.shape[1]
    certain = np.eye(classes)[told.labels]
    return (1 - spread) * certain + spread / (classes - 1) * (1 - certain)


def balanced_cross_entropy(outputs: Array, targets: Array, *, classes: int) -> Array:
    """The mean over classes of the mean cross-entropy of a class's examples.

      L = -1/K Σ_k 1/n_k Σ_{i: y_i = k} log softmax(z_i)[k],  K classes with n_k > 0

    Of as many examples a class it is `cross_entropy`. Of uneven shots that would have
    an inner loop learn, above all, which class is the largest.

    Args:
      outputs: logits z, `float[n, outputs]`; those after the first `classes` are out of
        the softmax.
      targets: labels y, `int[n]`.
      classes: how many outputs stand for a class.

    Returns:
      The loss, a scalar in nats; NaN if a label is out of range.

    >>> z, y = jnp.array([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), jnp.array([0, 1, 1])
    >>> print(f"{balanced_cross_entropy(z, y, classes=2):.4f}")
    0.4100
    """
    members = memberships(targets, classes, outputs.dtype)
    counts = jnp.sum(members, axis=0)
    there = jnp.sum(counts > 0).astype(outputs.dtype)
    weights = members / jnp.maximum(counts, jnp.ones_like(counts))[None]
    return -jnp.sum(weights * jax.nn.log_softmax(outputs[:, :classes])) / there


def softmax(z: np.ndarray) -> np.ndarray:
    """Of each row, in the precision of `z`.

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    raised = np.exp(z - np.max(z, axis=1, keepdims=True))
    return raised / np.sum(raised, axis=1, keepdims=True)


def share_interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, right where few were counted.

      (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Args:
      right: how many were.
      count: n, of how many.

    Returns:
      Its ends, within [0, 1].

    >>> low, high = share_interval(10, 10)
    >>> print(f"{low:.3f} {high:.3f}")
    0.722 1.000

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", Journal of the American Statistical Association, 1927.
    """
    share, z = right / count, Z95
    middle = share + z**2 / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    whole = 1 + z**2 / count
    # Those of none and of all are exact, but for rounding.
    low = 0.0 if right == 0 else (middle - half) / whole
    return low, 1.0 if right == count else (middle + half) / whole


def calibration_error(told: Told, at: float = 1.0, *, bins: int = 15) -> float:
    """How far confidences are from the shares that they promise.

      ECE = Σ_b n_b / n |share right in bin b - mean confidence in bin b|

    Args:
      told: what was said of examples whose labels are known.
      at: the temperature.
      bins: of equal width.

    Returns:
      The expected calibration error, in [0, 1].

    >>> sure = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    >>> print(f"{calibration_error(Told(sure, np.array([0, 0, 1, 1]))):.2f}")
    0.25

    Source: Guo et al., ICML 2017, section 2.
    """
    confidence = np.max(softmax(told.logits.astype(float) / at), axis=1)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, told.right() - confidence, bins)
    return float(np.sum(np.abs(gaps)) / len(confidence))
