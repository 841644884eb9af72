"""Operations on 3x3 windows of each channel, as sums and maxima of shifted images.

They are elementwise, and so stay fast when every task has its own weights, to any order
of differentiation; a grouped convolution has slow derivatives.
"""

import functools
import operator
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.types import Array

SIDE = 3


def depthwise_conv2d(
    x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1
) -> Array:
    """Cross-correlation of each channel with its own 3x3 kernel.

      y[n, p, q, c] = Σ_{i,j} x[n, s p + d (i - 1), s q + d (j - 1), c] k[i, j, 0, c]

    Args:
      x: images, `float[n, height, width, channels]`, which are 0 outside.
      kernel: `float[3, 3, 1, channels]`.
      stride: s.
      dilation: d of the kernel.

    Returns:
      `float[n, ⌈height / s⌉, ⌈width / s⌉, channels]`.

    Raises:
      InputError: if the shapes are not as above.

    >>> x = jnp.ones((1, 3, 3, 2))
    >>> depthwise_conv2d(x, jnp.ones((3, 3, 1, 2)))[0, :, :, 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if x.ndim != 4 or kernel.shape != (SIDE, SIDE, 1, x.shape[-1]):
        raise InputError(
            "depthwise_conv2d takes images [n, height, width, channels] and a kernel "
            f"[3, 3, 1, channels], got {x.shape} and {kernel.shape}"
        )
    taps = kernel.reshape(SIDE * SIDE, 1, 1, 1, -1)
    shifts = _shifted(x, 0.0, stride, dilation)
    return functools.reduce(operator.add, (s * k for s, k in zip(shifts, taps)))


def max_window(x: Array, *, stride: int = 1) -> Array:
    """The maximum over the 3x3 window about each place.

    The first of equal values, row by row, gets the gradient.

    Args:
      x: images, `float[n, height, width, channels]`.
      stride: s.

    Returns:
      `float[n, ⌈height / s⌉, ⌈width / s⌉, channels]`.

    >>> max_window(jnp.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0].tolist()
    [[4.0, 5.0, 5.0], [7.0, 8.0, 8.0], [7.0, 8.0, 8.0]]
    """
    shifts = _shifted(x, -np.inf, stride)
    return functools.reduce(lambda a, b: jnp.where(a < b, b, a), shifts)


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
    total = functools.reduce(operator.add, _shifted(x, 0.0, stride))
    down, across = (_inside(side, stride) for side in x.shape[1:3])
    share = 1 / (down.reshape(1, -1, 1, 1) * across.reshape(1, 1, -1, 1))
    return total * jnp.asarray(share, x.dtype)


def _shifted(
    x: Array, outside: float, stride: int, dilation: int = 1
) -> Iterator[Array]:
    """What is at each place of the window, row by row."""
    around = (dilation, dilation)
    x = jnp.pad(
        x, ((0, 0), around, around, (0, 0)), constant_values=np.array(outside, x.dtype)
    )
    reach = 2 * dilation
    for i in range(0, reach + 1, dilation):
        for j in range(0, reach + 1, dilation):
            height, width = x.shape[1] - reach, x.shape[2] - reach
            yield x[:, i : i + height : stride, j : j + width : stride]


def _inside(side: int, stride: int) -> np.ndarray:
    """How many of three successive places are inside, about each."""
    places = np.arange(0, side, stride)
    return 1 + (places > 0) + (places < side - 1)
