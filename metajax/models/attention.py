"""What the transformers here have in common: attention's product, and their norm."""

import math

import jax
import jax.numpy as jnp

from metajax.ops.masking import never
from metajax.ops.normalisation import Moments, normalise
from metajax.ops.precision import wider
from metajax.types import Array, Params


def attended(q: Array, k: Array, v: Array, present: Array | None = None) -> Array:
    """What each query takes from all tokens, softmax(q k / √d) v in each head.

    It takes plain products: fused attention has no second derivative, and jax.nn's
    computes the softmax of float64 in float32.

    Args:
      q: `float[n, queries, heads, d]`.
      k: `float[n, tokens, heads, d]`.
      v: `float[n, tokens, heads, d]`.
      present: which tokens count, `bool[n, tokens]`; all by default.

    Returns:
      `float[n, queries, heads * d]`.

    >>> q, tokens = jnp.ones((1, 1, 2, 4)), jnp.ones((1, 5, 2, 4))
    >>> attended(q, tokens, tokens).shape
    (1, 1, 8)
    """
    wide = wider(q.dtype)
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k, preferred_element_type=wide)
    scores = scores / math.sqrt(q.shape[-1])
    if present is not None:
        scores = jnp.where(present[:, None, None], scores, never(wide))
    shares = jax.nn.softmax(scores).astype(q.dtype)
    taken = jnp.einsum("nhqk,nkhd->nqhd", shares, v)
    return taken.reshape(*taken.shape[:2], -1)


def layer_norm(weights: Params, x: Array, eps: float = 1e-5) -> Array:
    """Normalises the last axis of each example and place by its own moments.

    Args:
      weights: `{"scale": γ, "offset": β}`.
      x: `float[..., channels]`.
      eps: ε.

    Returns:
      An array of the shape and dtype of `x`.
    """
    wide = x.astype(wider(x.dtype))
    mean = jnp.mean(wide, -1, keepdims=True)
    moments = Moments(mean, jnp.mean((wide - mean) ** 2, -1, keepdims=True))
    return normalise(x, moments, weights["scale"], weights["offset"], eps=eps)
