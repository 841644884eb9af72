"""Pictures of any size as the pixels that a learner takes, in a program.

It is what `metajax.data.pictures.decoding` does with Pillow once a file is decoded.
Sides may be symbolic, see `jax.export`, so sizes that follow from them are arrays.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from metajax.data.pictures.decoding import Pixels
from metajax.data.pictures.fitting import rounded_ratio
from metajax.errors import InputError
from metajax.types import Array

Side = int | Array
Resize = Callable[[Array], Array]
GREY = 19595, 38470, 7471  # parts of red, green and blue in 65536, as Pillow has them


def to_pixels(picture: Array, pixels: Pixels) -> Array:
    """A picture in the mode and size of a learner, as Pillow makes it.

    Each side is resized by a matrix of which the rows are a filter f of support r, and
    the result rounded:

      R = W X,  W_ij ∝ f(d) where |d| < r,
      d = (j + 1/2 - (i + 1/2) s) / max(s, 1),  s = old side / new side

    The width is resized first, or the height if it loses more than twice as many pixels
    as the width: so has Pillow from 13.0 on, and earlier versions the width always.

    Args:
      picture: `uint8[height, width, 3]`, in red, green and blue.
      pixels: what it becomes; see `metajax.data.pictures.fitting` for its fit.

    Returns:
      `uint8[*size, channels]`, within two grey levels of Pillow's.

    Raises:
      InputError: if pictures are resized by a filter that is none of `FILTERS`.

    >>> white = jnp.full((5, 7, 3), 255, jnp.uint8)
    >>> to_pixels(white, Pixels((1, 2), "L")).tolist()
    [[[255], [255]]]

    Source: Pillow, `Resample.c` and `Convert.c`.
    """
    if pixels.fit.interpolation not in FILTERS:
        raise InputError(
            f"no program resizes by interpolation {pixels.fit.interpolation!r}: "
            f"expected one of {', '.join(FILTERS)}; change it in the config.json"
        )
    values = picture.astype(jnp.int32)
    if pixels.mode == "L":
        parts = jnp.array(GREY, jnp.int32)[None, None]
        values = (jnp.sum(values * parts, -1, keepdims=True) + 2**15) >> 16
    old, new = picture.shape[:2], _whole(picture.shape, pixels)
    lost_rows, lost_columns = (jnp.asarray(a) - b for a, b in zip(old, new))
    rows, columns = (
        partial(_resize_side, axis, new[axis], pixels) for axis in range(2)
    )
    resized = jax.lax.cond(
        (lost_rows > 0) & (lost_rows > 2 * lost_columns),
        lambda x: columns(rows(x)),
        lambda x: rows(columns(x)),
        values.astype(jnp.float32),
    )
    return resized.astype(jnp.uint8)


def _whole(sides: tuple[int, ...], pixels: Pixels) -> tuple[Side, Side]:
    """(height, width) of a picture before its middle is cut out, as fitting has it."""
    size, fit = pixels.size, pixels.fit
    if fit.crop is None:
        return size
    height, width = (math.floor(side / fit.crop) for side in size)
    if fit.squashed:
        return height, width
    rows, columns = jnp.asarray(sides[0]), jnp.asarray(sides[1])
    if height == width:
        short = jnp.minimum(rows, columns)
        return height * rows // short, width * columns // short
    is_wide = height * columns >= width * rows
    return (
        jnp.where(is_wide, height, rounded_ratio(width * rows, columns)),
        jnp.where(is_wide, rounded_ratio(height * columns, rows), width),
    )


def _resize_side(axis: int, whole: Side, pixels: Pixels, values: Array) -> Array:
    """A side resized, and the middle of it."""
    support, kernel = FILTERS[pixels.fit.interpolation]
    old, new = values.shape[axis], pixels.size[axis]
    scale = jnp.asarray(old).astype(jnp.float32) / jnp.asarray(whole, jnp.float32)
    rest = jnp.asarray(whole) - new
    start = rest // 2 + (rest % 2) * (rest // 2 % 2)  # the half, rounded to even
    centres = (start + jnp.arange(new)).astype(jnp.float32) + 0.5
    places = jnp.arange(old, dtype=jnp.float32) + 0.5
    distances = jnp.abs(places[None] - scale * centres[:, None])
    distances /= jnp.maximum(scale, 1.0)
    weights = jnp.where(distances < support, kernel(distances), 0.0)
    weights /= jnp.sum(weights, axis=1, keepdims=True)
    lines = jnp.moveaxis(values, axis, 0)
    sums = jnp.tensordot(weights, lines, 1, precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(jnp.clip(jnp.floor(sums + 0.5), 0, 255), 0, axis)


def _lanczos(x: Array) -> Array:
    return jnp.sinc(x) * jnp.sinc(x / 3)


def _bicubic(x: Array) -> Array:
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    return jnp.where(x < 1, near, far)


def _bilinear(x: Array) -> Array:
    return 1 - x


FILTERS = {
    "lanczos": (3.0, _lanczos),
    "bicubic": (2.0, _bicubic),
    "bilinear": (1.0, _bilinear),
}
"""The support of each filter, and its values at distances of at least 0."""
