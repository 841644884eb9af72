"""Boxes around objects, labelled and predicted, and how much they overlap."""

from typing import NamedTuple

import jax.numpy as jnp

from metajax.types import Array


class Boxes(NamedTuple):
    """The labelled objects of images: the targets of a detector.

    Images have different numbers of objects, so the rest is padding.

    Attributes:
      corners: (left, top, right, bottom) in pixels from the upper left corner of the
        image, `float[images, objects, 4]`. Edges of pixels are whole numbers: the box
        of the first pixel is (0, 0, 1, 1).
      labels: the class of each, in `0, ..., ways - 1`, `int32[images, objects]`.
      present: which are no padding, `bool[images, objects]`.
    """

    corners: Array
    labels: Array
    present: Array


class Detections(NamedTuple):
    """The objects that a detector predicts in images.

    Attributes:
      corners: as `Boxes` has them, `float[images, most, 4]`.
      labels: the class of each, `int32[images, most]`.
      scores: higher for what is more certain, `float[images, most]`.
      present: which are no padding, `bool[images, most]`.
    """

    corners: Array
    labels: Array
    scores: Array
    present: Array


def overlaps(corners: Array, others: Array) -> Array:
    """Intersection over union of all pairs of boxes of ONE image.

      IoU = |a ∩ b| / |a ∪ b|,   0 where the union is empty

    Args:
      corners: (left, top, right, bottom), `float[n, 4]`.
      others: likewise, `float[m, 4]`.

    Returns:
      `float[n, m]`, in [0, 1].

    >>> pair = overlaps(jnp.array([[0.0, 0, 2, 2]]), jnp.array([[1.0, 0, 3, 2]]))
    >>> print(f"{pair[0, 0]:.4f}")
    0.3333
    """
    low = jnp.maximum(corners[:, None, :2], others[None, :, :2])
    high = jnp.minimum(corners[:, None, 2:], others[None, :, 2:])
    zero = jnp.zeros((), corners.dtype)
    shared = jnp.prod(jnp.maximum(high - low, zero), -1)
    both = areas(corners)[:, None] + areas(others)[None] - shared
    return shared / jnp.where(both > 0, both, jnp.ones_like(both))


def areas(corners: Array) -> Array:
    """The area of each box in square pixels, `float[...]`; 0 of one inside out.

    >>> areas(jnp.array([[0.0, 0.0, 3.0, 2.0]])).tolist()
    [6.0]
    """
    sides = jnp.maximum(corners[..., 2:] - corners[..., :2], 0)
    return jnp.prod(sides, -1)
