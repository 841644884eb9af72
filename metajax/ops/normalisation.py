"""Normalisation by the statistics of a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.ops.precision import wider
from metajax.types import Array


class Moments(NamedTuple):
    """Mean and biased variance, which broadcast against the array to normalise."""

    mean: Array
    variance: Array


def batch_moments(x: Array, present: Array | None = None) -> Moments:
    """The moments of each channel over all examples and places.

      μ = mean of x,  σ² = mean of (x - μ)²

    Args:
      x: `float[n, ..., channels]`.
      present: which examples count, `bool[n]`; all by default.

    Returns:
      `Moments` of shape `[1, ..., channels]`, in float32 at least.

    >>> x = jnp.array([[1.0], [3.0], [9.0]])
    >>> [m.item() for m in batch_moments(x, jnp.array([True, True, False]))]
    [2.0, 1.0]
    """
    # One pass over x computes both, and their derivatives. Without the shift, σ² would
    # lose bits if the mean is much larger than σ; in exact arithmetic it has no effect.
    x = x.astype(wider(x.dtype))
    shift = jax.lax.stop_gradient(_typical(x, present))
    distance = x - shift
    centre = _mean(distance, present)
    return Moments(shift + centre, _mean(distance**2, present) - centre**2)


def _typical(x: Array, present: Array | None) -> Array:
    """A typical value of each channel, which a single outlier cannot change much."""
    middle = tuple(slice(size // 2, size // 2 + 1) for size in x.shape[1:-1])
    x = x[(slice(None), *middle)]
    if present is not None:
        return _mean(x, present)
    # The median of three examples, since a sum needs one more launch on a GPU.
    a, b, c = (x[i : i + 1] for i in (0, len(x) // 2, max(len(x) - 1, 0)))
    return jnp.maximum(jnp.minimum(a, b), jnp.minimum(jnp.maximum(a, b), c))


def normalise(
    x: Array, moments: Moments, scale: Array, offset: Array, *, eps: float = 1e-5
) -> Array:
    """Normalises by moments, then scales and shifts.

      y = γ (x - μ) / √(σ² + ε) + β

    Args:
      x: `float[n, ..., channels]`.
      moments: μ and σ².
      scale: γ, `float[channels]`.
      offset: β, `float[channels]`.
      eps: ε.

    Returns:
      An array of the shape and dtype of `x`.
    """
    channels = (1,) * (x.ndim - 1) + (-1,)
    wide = wider(x.dtype)
    scale, offset = (a.astype(wide).reshape(channels) for a in (scale, offset))
    gain = jax.lax.rsqrt(moments.variance + eps) * scale
    return ((x.astype(wide) - moments.mean) * gain + offset).astype(x.dtype)


def batch_norm(
    x: Array,
    scale: Array,
    offset: Array,
    *,
    present: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Batch normalisation with the current batch's statistics, biased variance.

      y = γ (x - μ) / √(σ² + ε) + β,  μ and σ² over every axis but the last

    There are no running statistics, with which a few-shot learner falls to chance. So
    the outputs of an example depend on its batch, and `metajax.evaluate` reports both
    ways of batching the queries.

    Args:
      x: `float[n, ..., channels]`.
      scale: γ, `float[channels]`.
      offset: β, `float[channels]`.
      present: see `batch_moments`.
      eps: ε.

    Returns:
      An array of the shape of `x`.

    >>> y = batch_norm(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), eps=0.0)
    >>> y.tolist()
    [[-1.0], [1.0]]

    Source: Ioffe & Szegedy, "Batch Normalization", ICML 2015.
    """
    return normalise(x, batch_moments(x, present), scale, offset, eps=eps)


def group_norm(
    x: Array, scale: Array, offset: Array, groups: int, *, eps: float = 1e-5
) -> Array:
    """Group normalisation: each example by its own statistics, biased variance.

      y = γ (x - μ) / √(σ² + ε) + β,  μ and σ² over the places and channels of a group

    With one group it is layer normalisation over places and channels. An example's
    outputs do not depend on its batch.

    Args:
      x: `float[n, ..., channels]`.
      scale: γ, `float[channels]`.
      offset: β, `float[channels]`.
      groups: the number of groups of consecutive channels; a divisor of them.
      eps: ε.

    Returns:
      An array of the shape and dtype of `x`.

    >>> x = jnp.array([[[1.0, 2.0], [3.0, 6.0]]])
    >>> group_norm(x, jnp.ones(2), jnp.zeros(2), 2, eps=0.0).tolist()
    [[[-1.0, -1.0], [1.0, 1.0]]]

    Source: Wu & He, "Group Normalization", ECCV 2018.
    """
    places = tuple(range(1, x.ndim - 1))
    wide = x.astype(wider(x.dtype))
    mean, variance = jnp.mean(wide, places), jnp.var(wide, places)
    centre = _grouped(mean, groups)
    spread = _grouped(variance + (mean - centre) ** 2, groups)
    shape = (len(x), *[1] * len(places), x.shape[-1])
    moments = Moments(centre.reshape(shape), spread.reshape(shape))
    return normalise(x, moments, scale, offset, eps=eps)


def _grouped(values: Array, groups: int) -> Array:
    """The means of groups of channels, at each of their channels, `[n, channels]`."""
    n, channels = values.shape
    means = jnp.mean(values.reshape(n, groups, channels // groups), -1)
    return jnp.repeat(means, channels // groups, axis=1)


def pooled_moments(x: Array, batch: Moments, share: Array) -> Moments:
    """Pools a batch's moments with each example's own, as TaskNorm-I does.

      μ = α μ_b + (1 - α) μ_i
      σ² = α (σ_b² + (μ_b - μ)²) + (1 - α) (σ_i² + (μ_i - μ)²)

    Args:
      x: `float[n, ..., channels]`.
      batch: μ_b and σ_b².
      share: α, a scalar in [0, 1].

    Returns:
      `Moments` of shape `[n, 1, ..., channels]`.

    Source: Bronskill et al., "TaskNorm", ICML 2020, equations 9-12.
    """
    places = tuple(range(1, x.ndim - 1))
    x = x.astype(wider(x.dtype))
    own = Moments(jnp.mean(x, places, keepdims=True), jnp.var(x, places, keepdims=True))
    mean = share * batch.mean + (1 - share) * own.mean

    def about(moments: Moments) -> Array:
        return moments.variance + (moments.mean - mean) ** 2

    return Moments(mean, share * about(batch) + (1 - share) * about(own))


def _mean(x: Array, present: Array | None) -> Array:
    """The mean of each channel over the examples that are present."""
    places = tuple(range(1, x.ndim - 1))
    if present is None:
        return jnp.mean(x, (0, *places), keepdims=True)
    weights = present.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    weights = weights / jnp.maximum(jnp.sum(weights), 1)
    return jnp.sum(weights * jnp.mean(x, places, keepdims=True), 0, keepdims=True)
