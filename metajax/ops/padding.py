"""Padding and cutting in one operation."""

import jax.numpy as jnp
from jax import lax

from metajax.types import Array


def padded(x: Array, axis: int, low: int, end: int) -> Array:
    """Zeros before an axis, or entries cut off, and likewise after, to end at `end`."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (low, end - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), padding)
