"""The losses around a task's solution, and the score around its settings."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from metajax._pytrees.constant import check_learnt
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.study.named import Named
from metajax.study.tasks import at, count_tasks, entry, of_each_task
from metajax.types import Array, Batch, Episode, Learner, Loss, PyTree


class Landscape(NamedTuple):
    """A loss on the plane through three points.

    Distances along the axes are distances between parameters.

    Attributes:
      names: the names of the three points.
      points: the coordinates of the three points, `float[3, 2]`; the first is the
        origin, the second lies on the first axis.
      first: the coordinates along the axis "first".
      second: the coordinates along the axis "second".
      support_loss: the loss of the support set, `[second, first]`.
      query_loss: the loss of the query set, `[second, first]`.
    """

    names: tuple[str, str, str]
    points: np.ndarray
    first: np.ndarray
    second: np.ndarray
    support_loss: Named
    query_loss: Named


def landscape(
    learner: Learner,
    meta: PyTree,
    episode: Episode,
    loss: Loss,
    corner: PyTree,
    *,
    corner_name: str = "joint optimum",
    resolution: int = 25,
    margin: float = 0.3,
) -> Landscape:
    """The losses of one task on the plane through θ_0, θ_K and a third point.

      θ(a, b) = θ_0 + a u + b v,   (u, v) orthonormal, from θ_K - θ_0 and corner - θ_0

    Args:
      learner: any learner with an inner loop.
      meta: its meta-parameters.
      episode: ONE task.
      loss: what the inner loop descends.
      corner: the third point, of the structure of what the learner adapts, such as
        `joint_optimum`.
      corner_name: the name of the third point.
      resolution: number of points along each axis.
      margin: width of the border around the three points, as a share of their extent.

    Returns:
      `Landscape`, on the host.

    Raises:
      InputError: if the three points lie on a line.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> corner = joint_optimum(learner, meta, episodes, mj.mse, optax.adam(1e-2), 20)
    >>> one = jax.tree.map(lambda x: x[0], episodes)
    >>> landscape(learner, meta, one, mj.mse, corner).query_loss.values.shape
    (25, 25)

    Source: Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of
    DNNs", NeurIPS 2018, section 3.
    """
    check_count("resolution", resolution, least=2)
    check_learnt("landscape", meta)
    path = jax.jit(learner.trajectory)(meta, episode.support)
    plane = _plane(entry(path, 0), entry(path, -1), corner)
    low, high = plane.points.min(axis=0), plane.points.max(axis=0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    first, second = (np.linspace(low[i], high[i], resolution) for i in range(2))
    both = _losses(at(learner, loss), episode, plane, np.meshgrid(first, second))
    support, query = (Named(x, ("second", "first")) for x in both)
    names = ("before", "adapted", corner_name)
    return Landscape(names, plane.points, first, second, support, query)


class _Plane(NamedTuple):
    """A plane of parameters: its origin and axes, flat, and the three points in it."""

    origin: Array
    unravel: Callable[[Array], PyTree]
    u: Array
    v: Array
    points: np.ndarray


def _plane(start: PyTree, end: PyTree, corner: PyTree) -> _Plane:
    origin, unravel = ravel_pytree(start)
    one, two = (ravel_pytree(x)[0] - origin for x in (end, corner))
    # By Gram and Schmidt: v is the part of the corner's direction that is not along u.
    u = one / jnp.linalg.norm(one)
    aside = two - (two @ u) * u
    across = jnp.linalg.norm(aside)
    if not (across > 1e-6 * jnp.linalg.norm(two)):
        raise InputError(
            "the three points of a plane lie on a line: the learner's inner loop did "
            "not move, or the corner is one of its points; take another corner"
        )
    points = np.array([[0, 0], [jnp.linalg.norm(one), 0], [two @ u, across]], float)
    return _Plane(origin, unravel, u, aside / across, points)


def _losses(
    value: Callable[[PyTree, Batch], Array],
    episode: Episode,
    plane: _Plane,
    grid: Sequence[np.ndarray],
) -> np.ndarray:
    """The losses of the support and of the query set at the places of a grid."""

    def losses(place: Array) -> Array:
        adapted = plane.unravel(plane.origin + place[0] * plane.u + place[1] * plane.v)
        return jnp.stack([value(adapted, batch) for batch in episode])

    places = jnp.asarray(np.stack(grid, axis=-1).reshape(-1, 2), plane.origin.dtype)
    both = np.asarray(jax.jit(lambda x: jax.lax.map(losses, x))(places))
    return both.T.reshape(2, *grid[0].shape)


def joint_optimum(
    learner: Learner,
    meta: PyTree,
    episodes: Episode,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int = 200,
) -> PyTree:
    """The parameters that fit all tasks at once, from where the tasks adapt from.

      min_θ (1/B) Σ_i L_i(θ),   L_i over support and query; from θ_0

    Args:
      learner: any learner with an inner loop.
      meta: its meta-parameters.
      episodes: a meta-batch.
      loss: the loss.
      optimizer: an optimizer of optax, such as `optax.adam(1e-2)`.
      steps: its number of steps.

    Returns:
      Parameters, of the structure of those that the learner adapts.

    Raises:
      InputError: if `episodes` is not a meta-batch.
    """
    count_tasks(episodes)
    check_count("steps", steps, least=1)
    check_learnt("joint_optimum", meta)
    value = at(learner, loss)

    def start(support) -> PyTree:
        return entry(learner.trajectory(meta, support), 0)

    def joint(params: PyTree) -> Array:
        sides = [jax.vmap(value, (None, 0))(params, batch).mean() for batch in episodes]
        return sum(sides) / 2  # pyright: ignore

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(joint)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def run(first: PyTree) -> PyTree:
        return jax.lax.scan(step, (first, optimizer.init(first)), length=steps)[0][0]

    return jax.jit(lambda support: run(start(support)))(entry(episodes.support, 0))


class HeatMap(NamedTuple):
    """The score over inner rates and steps.

    Attributes:
      rates: the inner rates along the axis "rate".
      score: the score of the query set, `[task, rate, step]`.
    """

    rates: np.ndarray
    score: Named


def heat_map(
    build: Callable[[Array], Learner],
    meta: PyTree,
    episodes: Episode,
    metric: Loss,
    *,
    rates: Sequence[float],
) -> HeatMap:
    """How the score depends on the inner rate and on the number of steps.

    Args:
      build: `build(rate) -> learner`, where the rate is traced; the learner's number of
        steps is the length of the axis "step".
      meta: the meta-parameters.
      episodes: a meta-batch.
      metric: the score.
      rates: inner rates.

    Returns:
      `HeatMap`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch.

    >>> import optax, metajax as mj
    >>> def build(rate):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(rate), steps=3)
    >>> meta = build(0.01).init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> result = heat_map(build, meta, episodes, mj.mse, rates=(0.01, 0.1))
    >>> result.score.axes, result.score.values.shape
    (('task', 'rate', 'step'), (4, 2, 4))
    """
    tried = jnp.asarray(rates, float)

    def one(shared: tuple[PyTree, Array], episode: Episode) -> Array:
        def at_rate(rate: Array) -> Array:
            learner = build(rate)
            score = at(learner, metric)
            path = learner.trajectory(shared[0], episode.support)
            return jax.lax.map(lambda adapted: score(adapted, episode.query), path)

        return jax.lax.map(at_rate, shared[1])

    score = of_each_task(one, (meta, tried), episodes)
    return HeatMap(np.asarray(tried), Named(score, ("task", "rate", "step")))
