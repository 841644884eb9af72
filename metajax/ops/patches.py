"""Patches of images as channels, and back."""

from metajax.types import Array


def to_patches(x: Array, side: int) -> Array:
    """Square patches of pixels as the channels of one.

    Args:
      x: `[n, height, width, channels]`, whose sides are multiples of `side`.
      side: rows and columns of a patch.

    Returns:
      `[n, height / side, width / side, side² channels]`.

    >>> import jax.numpy as jnp
    >>> to_patches(jnp.arange(4).reshape(1, 2, 2, 1), 2)[0, 0, 0].tolist()
    [0, 1, 2, 3]
    """
    n, height, width, channels = x.shape
    x = x.reshape(n, height // side, side, width // side, side, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // side, width // side, side * side * channels)


def from_patches(x: Array, side: int) -> Array:
    """The inverse of `to_patches`.

    Args:
      x: `[n, rows, columns, side² channels]`.
      side: rows and columns of a patch.

    Returns:
      `[n, side rows, side columns, channels]`.

    >>> import jax.numpy as jnp
    >>> from_patches(jnp.arange(4).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
    [[0, 1], [2, 3]]
    """
    n, rows, columns, channels = x.shape
    x = x.reshape(n, rows, columns, side, side, channels // side**2)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, rows * side, columns * side, channels // side**2)
