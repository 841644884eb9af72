"""Pooling of the 3x3 window about each place, as maxima and sums of shifted images."""

import functools
import operator
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from metajax.ops.pooling import larger
from metajax.types import Array

SIDE = 3


def max_window(x: Array, *, stride: int = 1) -> Array:
    """The maximum over the 3x3 window about each place.

    The first of equal values, row by row, gets the gradient; a window with a NaN gives
    NaN.

    Args:
      x: images, `float[n, height, width, channels]`.
      stride: s.

    Returns:
      `float[n, ⌈height / s⌉, ⌈width / s⌉, channels]`.

    >>> max_window(jnp.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0].tolist()
    [[4.0, 5.0, 5.0], [7.0, 8.0, 8.0], [7.0, 8.0, 8.0]]
    """
    return _reduced(x, -np.inf, stride, lambda a, b: jnp.where(larger(a, b), b, a))


def mean_window(x: Array, *, stride: int = 1) -> Array:
    """The mean over the 3x3 window about each place, of what is inside the image.

    Args:
      x: images, `float[n, height, width, channels]`.
      stride: s.

    Returns:
      `float[n, ⌈height / s⌉, ⌈width / s⌉, channels]`.

    >>> mean_window(jnp.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0].tolist()
    [[2.0, 2.5, 3.0], [3.5, 4.0, 4.5], [5.0, 5.5, 6.0]]
    """
    total = _reduced(x, 0.0, stride, operator.add)
    down, across = (_inside(side, stride) for side in x.shape[1:3])
    share = 1 / (down.reshape(1, -1, 1, 1) * across.reshape(1, 1, -1, 1))
    return total * jnp.asarray(share, x.dtype)


def _reduced(
    x: Array, outside: float, stride: int, join: Callable[[Array, Array], Array]
) -> Array:
    """Joins the three columns about each place, and then the three rows of those."""
    height, width = x.shape[1:3]
    around = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = jnp.pad(x, around, constant_values=np.array(outside, x.dtype))
    columns = (x[:, :, j : j + width : stride] for j in range(SIDE))
    x = functools.reduce(join, columns)
    return functools.reduce(join, (x[:, i : i + height : stride] for i in range(SIDE)))


def _inside(side: int, stride: int) -> np.ndarray:
    """How many of three successive places are inside, about each."""
    places = np.arange(0, side, stride)
    return 1 + (places > 0) + (places < side - 1)
