"""The curvature that the inner loop meets, and what it does to the meta-gradient."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from metajax._autodiff.rules import check_known_rules
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.study.lanczos import Tridiagonal, lanczos, quadrature
from metajax.study.named import Named
from metajax.study.tasks import (
    at,
    count_tasks,
    entry,
    of_each_task,
    path_length,
    per_task,
)
from metajax.types import Array, Episode, Learner, Loss, PyTree


class Spectrum(NamedTuple):
    """The Hessian of the support loss at some points of each inner loop.

    Only leaves that the inner loop moves count. A repeated eigenvalue, as every one of
    a head of zeros is, is reported once. NaN stands where there are fewer eigenvalues
    than were asked for, and where the Hessian is not finite.

    Attributes:
      steps: the inner steps along "step".
      dimension: the number n of parameters that move, the largest of any task.
      largest: the largest eigenvalues, `[task, step, rank]`, in falling order.
      smallest: the smallest ones, in rising order.
      trace: an unbiased estimate of Σ λ, `[task, step]` (Hutchinson's).
      stable_rate: 2 / λ_max, `[task, step]`: plain gradient steps at a larger rate
        diverge along that direction. Infinite where no curvature is positive.
      eigenvalues: Ritz values, `[task, step, probe, rank]`.
      weights: the share of the spectrum near each, likewise.
    """

    steps: tuple[int, ...]
    dimension: int
    largest: Named
    smallest: Named
    trace: Named
    stable_rate: Named
    eigenvalues: Named
    weights: Named


def spectrum(
    learner: Learner,
    meta: PyTree,
    episodes: Episode,
    loss: Loss,
    *,
    steps: Sequence[int] | None = None,
    rank: int = 5,
    products: int = 16,
    probes: int = 1,
    seed: int = 0,
) -> Spectrum:
    """Looks at the Hessian of the inner loss along each task's trajectory.

      H_k = ∇² L_support(θ_k),   by Lanczos over products H v, of random v ∈ {-1, 1}ⁿ
      tr H ≈ vᵀ H v,   vᵀ f(H) v / n ≈ Σ_i w_i f(λ_i) for the spectral density

    Args:
      learner: any learner with an inner loop.
      meta: its meta-parameters.
      episodes: a meta-batch.
      loss: what the inner loop descends.
      steps: the steps k whose θ_k are looked at; the first and the last by default.
      rank: number of eigenvalues at either end, at most `products`.
      products: Hessian-vector products of a probe. The outermost eigenvalues converge
        first; more products sharpen those between.
      probes: random starts; each sharpens the trace and the density.
      seed: random seed of the probes.

    Returns:
      `Spectrum`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch, a number is out of range, or the
        loss has a custom derivative, and so perhaps no Hessian.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> result = spectrum(learner, meta, episodes, mj.mse)
    >>> result.steps, result.dimension, result.largest.values.shape
    ((0, 2), 1761, (4, 2, 5))

    Source: Ghorbani et al., "An Investigation into Neural Net Optimization via Hessian
    Eigenvalue Density", ICML 2019, algorithm 1; Hutchinson, 1990, for the trace.
    """
    tasks = count_tasks(episodes)
    check_count("products", products, least=1)
    check_count("probes", probes, least=1)
    check_count("rank", rank, least=1)
    points = _points(steps, path_length(learner, meta, episodes))
    keys = jax.random.split(jax.random.key(seed), (tasks, probes))
    one = _probes(learner, loss, points, products)
    probed, dimension = of_each_task(one, meta, episodes, keys)
    return _spectrum(points, dimension, *quadrature(probed), rank)


def _probes(
    learner: Learner, loss: Loss, points: tuple[int, ...], products: int
) -> Callable[[PyTree, Episode, Array], tuple[Tridiagonal, Array]]:
    """All probes of one task, and how many of its parameters move."""
    value = at(learner, loss)

    def one(meta: PyTree, episode: Episode, keys: Array) -> tuple[Tridiagonal, Array]:
        path = learner.trajectory(meta, episode.support)
        moves = _moved(path)

        def of_probe(adapted: PyTree, key: Array) -> Tridiagonal:
            flat, unravel = ravel_pytree(adapted)

            def support_loss(x: Array) -> Array:
                return value(unravel(x), episode.support)

            return _probed(support_loss, flat, moves, key, products)

        def of_point(adapted: PyTree) -> Tridiagonal:
            return jax.lax.map(lambda key: of_probe(adapted, key), keys)

        chosen = entry(path, np.array(points))
        return jax.lax.map(of_point, chosen), jnp.sum(moves > 0)

    return one


def _points(steps: Sequence[int] | None, length: int) -> tuple[int, ...]:
    """The steps to look at, of a trajectory of so many points."""
    points = (0, length - 1) if steps is None else tuple(steps)
    if any(not 0 <= k < length for k in points):
        raise InputError(
            f"steps must lie in 0..{length - 1} for a learner of {length - 1} steps, "
            f"got {points}"
        )
    return points


def _probed(
    loss: Callable[[Array], Array], x: Array, moves: Array, key: Array, products: int
) -> Tridiagonal:
    """Lanczos on the Hessian of the entries that move, from a random start."""
    check_known_rules("spectrum", "another loss", loss, x)

    def product(v: Array) -> Array:
        return moves * jax.jvp(jax.grad(loss), (x,), (moves * v,))[1]

    start = jax.random.rademacher(key, x.shape, x.dtype)
    return lanczos(product, moves * start, products)


def _spectrum(
    points: tuple[int, ...],
    dimension: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    rank: int,
) -> Spectrum:
    """What the Ritz values of all probes, `[task, step, probe, rank]`, say."""
    # Sorting puts NaN last, and `fmax` passes over it.
    largest = np.fmax.reduce(-np.sort(-values), axis=2)[..., :rank]
    smallest = np.fmin.reduce(values, axis=2)[..., :rank]
    top = largest[..., 0]
    with np.errstate(divide="ignore"):
        stable = np.where(top > 0, 2 / np.maximum(top, 0), np.inf)
    sums = np.where(weights > 0, values * weights, 0).sum(axis=-1)
    finite = np.isfinite(values[..., 0])
    trace = np.where(finite, dimension[:, None, None] * sums, np.nan).mean(axis=-1)
    return Spectrum(
        points,
        int(dimension.max()),
        per_task(largest, "step", "rank"),
        per_task(smallest, "step", "rank"),
        per_task(trace, "step"),
        per_task(np.where(np.isnan(top), np.nan, stable), "step"),
        per_task(values, "step", "probe", "rank"),
        per_task(weights, "step", "probe", "rank"),
    )


class Density(NamedTuple):
    """A spectral density.

    Attributes:
      eigenvalue: the axis, `[point]`, over the range of all tasks except those that
        reach ten times as far as nine of ten do.
      density: the mean over tasks and probes, of integral 1, `[step, point]`.
    """

    eigenvalue: np.ndarray
    density: Named


def density(result: Spectrum, *, points: int = 400, width: float = 0.01) -> Density:
    """The density of a spectrum's eigenvalues, each spread as a normal curve.

      ρ(t) = Σ_i w_i N(t; λ_i, σ²)

    Args:
      result: from `spectrum`.
      points: number of points on the axis of eigenvalues.
      width: σ, as a share of the spectrum's range.

    Returns:
      `Density`.
    """
    values, weights = result.eigenvalues.values, result.weights.values
    low, high = _range(values)
    least = np.finfo(values.dtype).eps * max(abs(low), abs(high), 1)
    sigma = width * max(high - low, least)
    grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
    curves = np.exp(-(((grid - values[..., None]) / sigma) ** 2) / 2)
    curves = curves / (sigma * np.sqrt(2 * np.pi))
    each = np.nansum(weights[..., None] * curves, axis=3)
    finite = np.isfinite(values[..., :1])  # probes that diverged do not count
    spread = each.sum(axis=(0, 2)) / np.maximum(1, finite.sum(axis=(0, 2)))
    return Density(grid, Named(spread, ("step", "point")))


class Sensitivity(NamedTuple):
    """The spectrum of the adaptation map's derivative.

    Attributes:
      singular_values: σ of J, `[task, rank]`, in falling order: how much the adapted
        parameters change with the meta-parameters, and so how much the meta-gradient
        grows on its way back. NaN where there are fewer distinct ones, and where a task
        diverged.
    """

    singular_values: Named


def adaptation_spectrum(
    learner: Learner,
    meta: PyTree,
    episodes: Episode,
    *,
    rank: int = 5,
    products: int = 8,
    seed: int = 0,
) -> Sensitivity:
    """The largest singular values of the adaptation map's Jacobian.

      J = ∂ adapt(θ) / ∂θ,   σ² the eigenvalues of Jᵀ J, by Lanczos over products

    For MAML with plain gradient steps J = dθ_K / dθ_0 = Π_k (I - α H_k); with σ ≫ 1 the
    meta-gradient explodes. All meta-parameters count, learnt rates too, whose
    derivatives are as large as the inner gradients. Each value is reported once.

    Args:
      learner: built with `grad=metajax.reverse`, the only form that can be
        differentiated forwards too.
      meta: its meta-parameters.
      episodes: a meta-batch.
      rank: number of singular values.
      products: products with Jᵀ J.
      seed: random seed of the start.

    Returns:
      `Sensitivity`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch, a number is out of range, or the
        learner cannot be differentiated forwards.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), 2, grad=mj.reverse)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> adaptation_spectrum(learner, meta, episodes).singular_values.values.shape
    (4, 5)
    """
    count_tasks(episodes)
    check_count("products", products, least=1)
    check_count("rank", rank, least=1)
    _check_forwards(learner, meta, episodes)
    key = jax.random.key(seed)

    def one(meta: PyTree, episode: Episode) -> Tridiagonal:
        flat, unravel = ravel_pytree(meta)

        def adapt(x: Array) -> Array:
            return ravel_pytree(learner.adapt(unravel(x), episode.support))[0]

        _, forwards = jax.linearize(adapt, flat)
        backwards = jax.linear_transpose(forwards, flat)
        start = jax.random.normal(key, flat.shape, flat.dtype)
        return lanczos(lambda v: backwards(forwards(v))[0], start, products)

    squared, _ = quadrature(of_each_task(one, meta, episodes))
    largest = -np.sort(-squared, axis=1)[:, :rank]  # which puts NaN last
    return Sensitivity(per_task(np.sqrt(np.maximum(largest, 0)), "rank"))


def _check_forwards(learner: Learner, meta: PyTree, episodes: Episode) -> None:
    support = entry(episodes.support, 0)

    def tangent(meta: PyTree) -> PyTree:
        return jax.jvp(lambda m: learner.adapt(m, support), (meta,), (meta,))[1]

    try:
        jax.jit(tangent).lower(meta)
    except TypeError as error:  # what JAX raises for a rule of reverse mode only
        raise InputError(
            "the adaptation map must be differentiable forwards: build the learner "
            "with grad=metajax.reverse"
        ) from error


def _range(values: np.ndarray) -> tuple[float, float]:
    """The range of `[task, ...]`, without tasks that lie far beyond the others."""
    each = values.reshape(len(values), -1)
    each = each[np.isfinite(each).any(axis=1)]
    if not len(each):
        return 0.0, 0.0
    reach = np.nanmax(np.abs(each), axis=1)
    usual = each[reach <= 10 * np.quantile(reach, 0.9, method="lower")]
    return float(np.nanmin(usual)), float(np.nanmax(usual))


def _moved(path: PyTree) -> Array:
    """1 for the entries of leaves that a trajectory moves; for all if it moves none."""

    def leaf(x: Array) -> Array:
        return jnp.full(x.shape[1:], jnp.any(x != x[:1]), x.dtype)

    flat, _ = ravel_pytree(jax.tree.map(leaf, path))
    return jnp.where(jnp.any(flat > 0), flat, jnp.ones_like(flat))
