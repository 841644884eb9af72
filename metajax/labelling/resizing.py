"""Pictures of any size as the pixels that a learner takes, in a program.

It is what `metajax.data.decoding` does with Pillow once a file is decoded.
"""

from functools import partial

import jax
import jax.numpy as jnp

from metajax.data.decoding import Mode
from metajax.types import Array

LOBES = 3  # of Lanczos' filter
GREY = 19595, 38470, 7471  # parts of red, green and blue in 65536, as Pillow has them


def to_pixels(picture: Array, size: tuple[int, int], mode: Mode) -> Array:
    """A picture in the mode and size of a learner, as Pillow resizes by Lanczos.

    Each side is resized by a matrix, and the result rounded:

      R = W X,  W_ij ∝ sinc(d) sinc(d/3) where |d| < 3,
      d = (j + 1/2 - (i + 1/2) s) / max(s, 1),  s = old side / new side

    The width is resized first, or the height if it loses more than twice as many pixels
    as the width: so has Pillow from 13.0 on, and earlier versions the width always.

    Args:
      picture: `uint8[height, width, 3]`, in red, green and blue. Its sides may be
        symbolic, see `jax.export`.
      size: (height, width) of the result.
      mode: "RGB" or "L".

    Returns:
      `uint8[*size, channels]`, within a grey level of Pillow's.

    >>> to_pixels(jnp.full((5, 7, 3), 9, jnp.uint8), (1, 2), "L").tolist()
    [[[9], [9]]]

    Source: Pillow, `Resample.c` and `Convert.c`.
    """
    pixels = picture.astype(jnp.int32)
    if mode == "L":
        parts = jnp.array(GREY, jnp.int32)[None, None]
        pixels = (jnp.sum(pixels * parts, -1, keepdims=True) + 2**15) >> 16
    rows, columns = (
        jnp.asarray(old) - new for old, new in zip(picture.shape[:2], size)
    )
    resized = jax.lax.cond(
        (rows > 0) & (rows > 2 * columns),
        partial(_resize_sides, size=size, axes=(0, 1)),
        partial(_resize_sides, size=size, axes=(1, 0)),
        pixels.astype(jnp.float32),
    )
    return resized.astype(jnp.uint8)


def _resize_sides(pixels: Array, size: tuple[int, int], axes: tuple[int, int]) -> Array:
    """The sides of a picture resized, in the order of the axes."""
    for axis in axes:
        weights = _weights(pixels.shape[axis], size[axis])
        columns = jnp.moveaxis(pixels, axis, 0)
        sums = jnp.tensordot(weights, columns, 1, precision=jax.lax.Precision.HIGHEST)
        pixels = jnp.moveaxis(jnp.clip(jnp.floor(sums + 0.5), 0, 255), 0, axis)
    return pixels


def _weights(old: int, new: int) -> Array:
    """The matrix that resizes a side, `float32[new, old]`."""
    scale = jnp.asarray(old).astype(jnp.float32) / new
    centres = (jnp.arange(new, dtype=jnp.float32) + 0.5) * scale
    places = jnp.arange(old, dtype=jnp.float32) + 0.5
    distances = (places[None] - centres[:, None]) / jnp.maximum(scale, 1.0)
    weights = jnp.where(
        jnp.abs(distances) < LOBES,
        jnp.sinc(distances) * jnp.sinc(distances / LOBES),
        0.0,
    )
    return weights / jnp.sum(weights, axis=1, keepdims=True)
