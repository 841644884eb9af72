"""Normalisation by the statistics of the current batch."""

import jax
import jax.numpy as jnp

from metajax.ops.precision import wider
from metajax.types import Array


def batch_norm(x: Array, scale: Array, offset: Array, *, eps: float = 1e-5) -> Array:
    """Batch normalisation with the current batch's statistics, biased variance.

      y = γ (x - μ) / √(σ² + ε) + β,  μ and σ² over every axis but the last

    No running statistics: with them a few-shot learner falls to chance. The outputs of
    one example so depend on the batch it comes in; `metajax.evaluate` reports both ways
    of batching the queries.

    Args:
      x: `float[n, ..., channels]`.
      scale: γ, `float[channels]`.
      offset: β, `float[channels]`.
      eps: ε.

    Returns:
      An array of the shape of `x`.

    >>> y = batch_norm(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), eps=0.0)
    >>> y.tolist()
    [[-1.0], [1.0]]

    Source: Ioffe & Szegedy, "Batch Normalization", ICML 2015.
    """
    axes, channels = tuple(range(x.ndim - 1)), (1,) * (x.ndim - 1) + (-1,)
    dtype = x.dtype
    x, scale, offset = (a.astype(wider(a.dtype)) for a in (x, scale, offset))
    centred = x - jnp.mean(x, axes, keepdims=True)
    variance = jnp.mean(centred**2, axes, keepdims=True)
    gain = jax.lax.rsqrt(variance + eps) * scale.reshape(channels)
    return (centred * gain + offset.reshape(channels)).astype(dtype)
