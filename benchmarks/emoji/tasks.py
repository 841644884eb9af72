"""Few-shot tasks of emoji whose queries are by a foundry that the support set lacks."""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.emoji.pictures import Drawings
from metajax.labelling import Whitening, learn_whitening
from metajax.types import Array, Batch, Learner

AT_ONCE = 500  # support examples


class Tasks(NamedTuple):
    """Tasks, as places in the names and the foundries.

    Attributes:
      names: those of the support set, `int[tasks, ways]`.
      unseen: names of more queries, that no support set has, `int[tasks, unseen]`.
      support: the foundries of the support set, `int[tasks, shots]`.
      query: the foundry of the queries, `int[tasks]`.
    """

    names: np.ndarray
    unseen: np.ndarray
    support: np.ndarray
    query: np.ndarray


class Shape(NamedTuple):
    """How large a task is.

    Attributes:
      ways: the names of the support set, each of which is also a query.
      shots: the foundries of the support set.
      unseen: how many more queries have names that the support set lacks.
    """

    ways: int
    shots: int
    unseen: int = 0

    def __str__(self) -> str:
        return f"{self.ways}w{self.shots}s"


Centre = Callable[[Tasks, Array, Array], tuple[Array, Array]]


def draw_tasks(
    drawings: Drawings, shape: Shape, *, tasks: int, seed: int, other_maker: bool
) -> Tasks:
    """Draws tasks, the same ones for a seed.

    The foundries of a task are drawn first: one for its queries, and `shots` others.

    Args:
      drawings: what there is; its values are not looked at.
      shape: of a task.
      tasks: how many.
      seed: of the draws.
      other_maker: no foundry of the support set has the maker of the queries' one.
    """
    count, makers = len(drawings.values), drawings.makers
    kinds = makers if other_maker else np.arange(len(makers))
    chance = np.random.default_rng(seed)
    rows = []
    for _ in range(tasks):
        query = int(chance.integers(len(kinds)))
        others = np.flatnonzero(kinds != kinds[query])
        support = chance.choice(others, shape.shots, replace=False)
        names = chance.choice(count, shape.ways + shape.unseen, replace=False)
        rows.append((names[: shape.ways], names[shape.ways :], support, query))
    return Tasks(*(np.stack(column) for column in zip(*rows)))


def uncentred(task: Tasks, support: Array, query: Array) -> tuple[Array, Array]:
    """The support set and the queries."""
    return support, query


def centre_each(task: Tasks, support: Array, query: Array) -> tuple[Array, Array]:
    """Either less its own mean: queries are seen together, so it is transductive."""
    return support - _mean(support), query - _mean(query)


def centre_by_others(background: np.ndarray) -> Centre:
    """Both less the mean of other names, as the support set's foundries drew them.

    Args:
      background: of those names, `float[names, foundries, features]`.
    """
    means = jnp.asarray(background.mean(0))

    def centre(task: Tasks, support: Array, query: Array) -> tuple[Array, Array]:
        mean = _mean(means[task.support])
        return support - mean, query - mean

    return centre


def whiten_by_others(background: Drawings) -> Centre:
    """Both whitened by other names, as foundries of other makers drew them.

    None of it is by the maker of the queries.

    Args:
      background: of those names.
    """
    values, makers = background

    @cache  # some makers drew two sets
    def learn(maker: int) -> Whitening:
        drawn = values[:, makers != maker]
        labels = np.repeat(np.arange(len(drawn)), drawn.shape[1])
        return learn_whitening(drawn.reshape(len(labels), -1), labels)

    each = jax.tree.map(lambda *x: jnp.stack(x), *map(learn, makers))

    def centre(task: Tasks, support: Array, query: Array) -> tuple[Array, Array]:
        whitening = jax.tree.map(lambda x: x[task.query], each)
        return whitening(support), whitening(query)

    return centre


def _mean(x: Array) -> Array:
    return jnp.mean(x, 0, keepdims=True)


def predict_tasks(
    learner: Learner, meta: object, drawings: Drawings, tasks: Tasks, centre: Centre
) -> np.ndarray:
    """A learner's outputs for the queries of tasks, `float[tasks, queries, ways]`.

    The queries are those of the support set's names, in order, then the unseen ones.

    Args:
      learner: of `ways` classes.
      meta: its meta-parameters.
      drawings: the values that the learner takes.
      tasks: on which.
      centre: what is taken from a task's support set and queries first.
    """
    ways, shots = tasks.names.shape[1], tasks.support.shape[1]
    values = jnp.asarray(drawings.values)
    targets = jnp.repeat(jnp.arange(ways), shots)

    @partial(jax.jit, static_argnames="size")
    def run(values: Array, tasks: Tasks, size: int) -> Array:
        def one(task: Tasks) -> Array:
            support = values[task.names[:, None], task.support[None, :]]
            support = support.reshape(-1, *values.shape[2:])
            asked = jnp.concatenate([task.names, task.unseen])
            support, query = centre(task, support, values[asked, task.query])
            return learner.predict(learner.adapt(meta, Batch(support, targets)), query)

        return jax.lax.map(one, tasks, batch_size=size)

    size = max(1, AT_ONCE // (ways * shots))
    return np.asarray(run(values, jax.tree.map(jnp.asarray, tasks), size))
