"""Task2Vec: a vector of each task, and distances between them."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.learners.partition import PathPredicate, combine, partition
from metajax.study.tasks import of_each_task
from metajax.types import Array, Batch, Episode, Learner, Params, PyTree, unpadded


def features_of_path(path: str) -> bool:
    """True of all arrays that are under no head, whose outputs are a task's own."""
    return "['head']" not in path


def fisher_diagonal(
    predict: Callable[[Params, PyTree], Array], params: Params, inputs: PyTree
) -> Params:
    """The diagonal of the Fisher information of a classifier's parameters.

      F_j = (1/n) Σ_i Σ_k p_ik (∂ log p_ik / ∂θ_j)²,   p_i = softmax(predict(θ, x_i))

    The expectation over labels is the model's own, and exact. Where batch norm mixes
    examples, the derivative passes through its statistics. Each example takes a
    backward pass of the whole batch for each class; one gradient a class is stored.

    Args:
      predict: `predict(params, inputs) -> logits`, `float[n, classes]`.
      params: θ.
      inputs: x.

    Returns:
      A tree of F, of the shape of `params`.

    Raises:
      InputError: if the outputs are not logits of at least two classes.

    >>> inputs = jnp.array([[1.0], [2.0]])
    >>> kernel = jnp.zeros((1, 2))
    >>> fisher_diagonal(lambda w, x: x @ w, kernel, inputs).tolist()
    [[0.625, 0.625]]

    Source: Achille et al., "Task2Vec", ICCV 2019.
    """

    def log_probabilities(params: Params) -> Array:
        outputs = predict(params, inputs)
        shape = getattr(outputs, "shape", ())
        if len(shape) != 2 or shape[1] < 2:
            raise InputError(
                "the Fisher information is of a classifier: expected outputs "
                f"[n, classes] of two classes or more, got {shape}"
            )
        return jax.nn.log_softmax(outputs)

    log_p, pull = jax.vjp(log_probabilities, params)
    n, classes = log_p.shape
    labels = jnp.eye(classes, dtype=log_p.dtype)

    def of_example(total: Params, place: Array) -> tuple[Params, None]:
        def weighted(label: Array) -> Params:
            cotangent = jnp.zeros_like(log_p).at[place].set(label)
            p = jnp.sum(jnp.exp(log_p[place]) * label)
            return jax.tree.map(lambda g: p * g**2, pull(cotangent)[0])

        each = jax.vmap(weighted)(labels)
        return jax.tree.map(lambda t, x: t + jnp.sum(x, 0), total, each), None

    start = jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(of_example, start, jnp.arange(n))
    return jax.tree.map(lambda x: x / n, total)


def task2vec(
    learner: Learner,
    meta: PyTree,
    tasks: Batch,
    *,
    takes: PathPredicate = features_of_path,
) -> np.ndarray:
    """A vector of each task: the Fisher information of a probe that has learnt it.

    The probe is what the learner adapts to: of `metajax.r2d2` or `metajax.lr_d2`, one
    body with a head in closed form, near to the paper; of `metajax.maml`, the network
    after its inner steps. The vector has the mean of `fisher_diagonal` over each
    filter: over all axes but the last of each array.

    Args:
      learner: any whose outputs are logits.
      meta: its meta-parameters.
      tasks: the examples of each task, with a leading axis of tasks.
      takes: `takes(path) -> bool`, which arrays of what the learner adapts to; all that
        are under no head by default. Only those count whose path ends as one of `meta`
        does: what is computed of the support set, such as moments, is no filter.

    Returns:
      `float[tasks, filters]`, on the host.

    Raises:
      InputError: if `tasks` are no meta-batch, or padded, or the outputs no logits; if
        no array is taken.

    >>> import metajax as mj
    >>> learner = mj.prototypical(mj.mlp(2, (8,), 4), ways=3)
    >>> inputs = jax.random.normal(jax.random.key(0), (5, 6, 2))
    >>> tasks = Batch(inputs, jnp.tile(jnp.arange(3), (5, 2)))
    >>> vectors = task2vec(learner, learner.init(jax.random.key(1)), tasks)
    >>> vectors.shape, bool((vectors >= 0).all())
    ((5, 16), True)

    Source: Achille et al., "Task2Vec: Task Embedding for Meta-Learning", ICCV 2019.
    """
    if unpadded(tasks.inputs)[1] is not None:
        raise InputError(
            "the tasks are padded, and what is padding would count; give tasks of one "
            "shape"
        )

    is_learnt = _among(meta)

    def one(meta: PyTree, episode: Episode) -> Array:
        task = episode.support
        part, rest = _parted(
            lambda path: takes(path) and is_learnt(path), learner.adapt(meta, task)
        )

        def predict(part: Params, inputs: PyTree) -> Array:
            return learner.predict(combine(part, rest), inputs)

        filters = jax.tree.leaves(fisher_diagonal(predict, part, task.inputs))
        return jnp.concatenate([_of_filters(x) for x in filters])

    return of_each_task(one, meta, Episode(tasks, tasks))


def _among(meta: PyTree) -> PathPredicate:
    """Whether a path is that of one of the meta-parameters, or one ends as the other.

    Learners hold a network's parameters under different names in what they learn and in
    what they adapt to: `[0]['kernel']` there is `['body'][0]['kernel']` here.
    """
    learnt = [
        _keys(jax.tree_util.keystr(p)) for p, _ in jax.tree.leaves_with_path(meta)
    ]

    def is_learnt(path: str) -> bool:
        own = _keys(path)
        return any(x.endswith(own) or (x and own.endswith(x)) for x in learnt)

    return is_learnt


def _keys(path: str) -> str:
    """A path whose attributes, `.body`, are written as keys, `['body']`."""
    return re.sub(r"\.(\w+)", r"['\1']", path)


def _parted(takes: PathPredicate, adapted: PyTree) -> tuple[Params, Params]:
    try:
        return partition(takes, adapted)
    except InputError as error:
        raise InputError(
            "a vector needs learnt arrays of a network that are under no head, and "
            "none was taken; give another learner, or other `takes`"
        ) from error


def _of_filters(values: Array) -> Array:
    """The mean over all axes but the last."""
    return jnp.mean(values.reshape(-1, values.shape[-1] if values.ndim else 1), axis=0)


def task_distances(vectors: np.ndarray) -> np.ndarray:
    """The symmetric distance of the vectors of tasks.

      d(a, b) = 1 - cos(F_a / (F_a + F_b), F_b / (F_a + F_b)),   by element

    Elements that are 0 for both tasks have no part in it. It does not depend on how
    large an element is for all tasks alike.

    Args:
      vectors: F, at least 0, `float[tasks, filters]`.

    Returns:
      `float64[tasks, tasks]`, between 0 and 1.

    Raises:
      InputError: if a vector is not finite, or has a negative element.

    >>> vectors = np.array([[1.0, 3.0], [2.0, 6.0], [3.0, 1.0]])
    >>> task_distances(vectors).round(2).tolist()
    [[0.0, 0.0, 0.4], [0.0, 0.0, 0.38], [0.4, 0.38, 0.0]]

    Source: Achille et al., "Task2Vec", ICCV 2019, the symmetric distance.
    """
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or not (np.isfinite(vectors) & (vectors >= 0)).all():
        raise InputError(
            "vectors must be finite, at least 0 and [tasks, filters], got "
            f"{vectors.shape}; an adaptation that diverges has none"
        )
    return np.stack([_to_all(vector, vectors) for vector in vectors])


def _to_all(vector: np.ndarray, others: np.ndarray) -> np.ndarray:
    total = vector + others
    total = np.where(total > 0, total, 1)
    own, theirs = vector / total, others / total
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(theirs, axis=1)
    cosine = (own * theirs).sum(axis=1) / np.where(norms > 0, norms, 1)
    return np.clip(1 - cosine, 0, 1)
