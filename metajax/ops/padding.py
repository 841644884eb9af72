"""Padding and cutting in one operation."""

import jax.numpy as jnp
from jax import lax

from metajax.types import Array


def padded(x: Array, axis: int, low: int, end: int) -> Array:
    """Pads an axis with zeros or cuts it, on either side.

    Args:
      x: an array.
      axis: the axis.
      low: the number of zeros to add in front; if negative, of entries to cut off.
      end: where the axis ends, counted from the first entry of `x`.

    Returns:
      An array with `low + end` entries along the axis.
    """
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (low, end - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), padding)
