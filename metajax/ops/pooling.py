"""Pooling by slices: `reduce_window` has a slow second derivative."""

import jax.numpy as jnp

from metajax.types import Array


def max_pool(x: Array) -> Array:
    """Maximum over 2x2 windows at stride 2; an odd last row or column is dropped.

    Of equal values the first, row by row, has the gradient, as in `reduce_window` and
    PyTorch: flat paper makes ties the rule in drawings.

    Args:
      x: `float[n, height, width, channels]`.

    Returns:
      `float[n, ⌊height / 2⌋, ⌊width / 2⌋, channels]`.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = _larger(x[:, :, 0:width:2], x[:, :, 1:width:2])
    return _larger(x[:, 0:height:2], x[:, 1:height:2])


def _larger(first: Array, second: Array) -> Array:
    """The maximum; at a tie `jnp.maximum` would halve the gradient."""
    return jnp.where((first < second) | jnp.isnan(second), second, first)
