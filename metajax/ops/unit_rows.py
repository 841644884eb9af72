"""Vectors at length one."""

import jax
import jax.numpy as jnp

from metajax.types import Array


def unit_rows(x: Array) -> Array:
    """The last axis at length one; zeros stay, where the derivative is finite.

      x / |x|

    Args:
      x: `float[..., d]`.

    Returns:
      `float[..., d]`.

    >>> unit_rows(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(1).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    square = jnp.sum(x**2, -1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, jnp.finfo(x.dtype).eps ** 2))
