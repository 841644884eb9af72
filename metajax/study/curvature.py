"""The curvature that the inner loop meets, and what it does to the meta-gradient."""

from collections.abc import Sequence
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

    It is that of the leaves that the inner loop moves. An eigenvalue that repeats, as
    every one of a head of zeros does, is given once. Where there are fewer than were
    asked for, or the Hessian is not finite, there is NaN.

    Attributes:
      steps: the inner steps along "step".
      dimension: the number of parameters that move, n; the most of any task.
      largest: the largest eigenvalues, `[task, step, rank]`, falling.
      smallest: the smallest ones, rising.
      trace: an unbiased estimate of Σ λ, `[task, step]` (Hutchinson's).
      stable_rate: 2 / λ_max, `[task, step]`: plain gradient steps of a larger rate grow
        along that direction. Infinite where nothing curves up.
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
      steps: at which θ_k to look; the first and the last by default.
      rank: how many eigenvalues at either end to give, no more than `products`.
      products: Hessian-vector products a probe. The outermost eigenvalues are right
        first; more products sharpen what lies between.
      probes: random starts; each sharpens the trace and the density.
      seed: of the probes.

    Returns:
      `Spectrum`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch, a number is out of range, or the
        loss holds a derivative that is not JAX's own, and so may have no Hessian.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> found = spectrum(learner, meta, episodes, mj.mse)
    >>> found.steps, found.dimension, found.largest.values.shape
    ((0, 2), 1761, (4, 2, 5))

    Source: Ghorbani et al., "An Investigation into Neural Net Optimization via Hessian
    Eigenvalue Density", ICML 2019, algorithm 1; Hutchinson, 1990, of the trace.
    """
    tasks = count_tasks(episodes)
    check_count("products", products, least=1)
    check_count("probes", probes, least=1)
    check_count("rank", rank, least=1)
    length = path_length(learner, meta, episodes)
    points = (0, length - 1) if steps is None else tuple(steps)
    if any(not 0 <= k < length for k in points):
        raise InputError(
            f"steps must lie in 0..{length - 1} for a learner of {length - 1} steps, "
            f"got {points}"
        )
    value = at(learner, loss)
    keys = jax.random.split(jax.random.key(seed), (tasks, probes))

    def one(meta: PyTree, episode: Episode, keys: Array) -> tuple[Tridiagonal, Array]:
        path = learner.trajectory(meta, episode.support)
        moves = _moved(path)

        def there(adapted: PyTree, probe_key: Array) -> Tridiagonal:
            flat, unravel = ravel_pytree(adapted)

            def support_loss(x: Array) -> Array:
                return value(unravel(x), episode.support)

            check_known_rules("spectrum", "another loss", support_loss, flat)

            def product(v: Array) -> Array:
                slope = jax.grad(support_loss)
                return moves * jax.jvp(slope, (flat,), (moves * v,))[1]

            start = jax.random.rademacher(probe_key, flat.shape, flat.dtype)
            return lanczos(product, moves * start, products)

        chosen = entry(path, np.array(points))
        found = jax.lax.map(lambda x: jax.lax.map(lambda k: there(x, k), keys), chosen)
        return found, jnp.sum(moves > 0)

    found, dimension = of_each_task(one, meta, episodes, keys)
    values, weights = quadrature(found)
    # Sorting puts NaN last, and `fmax` passes over it.
    largest = np.fmax.reduce(-np.sort(-values), axis=2)[..., :rank]
    smallest = np.fmin.reduce(values, axis=2)[..., :rank]
    top = largest[..., 0]
    with np.errstate(divide="ignore"):
        stable = np.where(top > 0, 2 / np.maximum(top, 0), np.inf)
    seen = np.where(weights > 0, values * weights, 0).sum(axis=-1)
    finite = np.isfinite(values[..., 0])
    trace = np.where(finite, dimension[:, None, None] * seen, np.nan).mean(axis=-1)
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
      eigenvalue: where it is given, `[point]`: over the range of all tasks but those
        that reach ten times as far as nine of ten do.
      density: of integral 1, `[step, point]`, the mean over tasks and probes.
    """

    eigenvalue: np.ndarray
    density: Named


def density(found: Spectrum, *, points: int = 400, width: float = 0.01) -> Density:
    """The density of a spectrum's eigenvalues, each spread as a normal curve.

      ρ(t) = Σ_i w_i N(t; λ_i, σ²)

    Args:
      found: from `spectrum`.
      points: on the axis of eigenvalues.
      width: σ, as a share of the spectrum's range.

    Returns:
      `Density`.
    """
    values, weights = found.eigenvalues.values, found.weights.values
    low, high = _range(values)
    least = np.finfo(values.dtype).eps * max(abs(low), abs(high), 1)
    sigma = width * max(high - low, least)
    grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
    curves = np.exp(-(((grid - values[..., None]) / sigma) ** 2) / 2)
    curves = curves / (sigma * np.sqrt(2 * np.pi))
    each = np.nansum(weights[..., None] * curves, axis=3)
    finite = np.isfinite(values[..., :1])  # a probe that diverged has no part
    spread = each.sum(axis=(0, 2)) / np.maximum(1, finite.sum(axis=(0, 2)))
    return Density(grid, Named(spread, ("step", "point")))


class Sensitivity(NamedTuple):
    """The spectrum of the adaptation map's derivative.

    Attributes:
      singular_values: σ of J, `[task, rank]`, falling: by how much what was adapted
        changes with the meta-parameters, and the meta-gradient grows on its way back.
        NaN where there are fewer distinct ones, and where a task diverged.
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
    meta-gradient explodes. All meta-parameters count: learnt rates too, whose
    derivatives are as large as the inner gradients. Each distinct value is seen once.

    Args:
      learner: built with `grad=metajax.reverse`, the one form that can be
        differentiated forwards too.
      meta: its meta-parameters.
      episodes: a meta-batch.
      rank: how many to give.
      products: products with Jᵀ J.
      seed: of the start.

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
    except TypeError as error:  # what JAX raises of a custom rule that is for reverse
        raise InputError(
            "the adaptation map must be differentiable forwards: build the learner "
            "with grad=metajax.reverse"
        ) from error


def _range(values: np.ndarray) -> tuple[float, float]:
    """Of `[task, ...]`, but for tasks that lie far beyond the others."""
    each = values.reshape(len(values), -1)
    each = each[np.isfinite(each).any(axis=1)]
    if not len(each):
        return 0.0, 0.0
    reach = np.nanmax(np.abs(each), axis=1)
    usual = each[reach <= 10 * np.quantile(reach, 0.9, method="lower")]
    return float(np.nanmin(usual)), float(np.nanmax(usual))


def _moved(path: PyTree) -> Array:
    """1 for the entries of leaves that a trajectory moves; 1 for all if none is."""

    def leaf(x: Array) -> Array:
        return jnp.full(x.shape[1:], jnp.any(x != x[:1]), x.dtype)

    flat, _ = ravel_pytree(jax.tree.map(leaf, path))
    return jnp.where(jnp.any(flat > 0), flat, jnp.ones_like(flat))
