"""Greedy non-maximum suppression, in one program of fixed shapes."""

import jax
import jax.numpy as jnp

from metajax.detection.boxes import Detections, overlaps
from metajax.detection.checking import check_iou
from metajax.errors import InputError
from metajax.types import Array


def suppress(detections: Detections, iou: float = 0.5) -> Detections:
    """Drops detections that overlap a better one of their class in their image.

      keep_i = present_i and no j before i, by falling score, has
               keep_j and label_j = label_i and IoU(i, j) > iou

    Of equal scores, the one with the lower index is the better one. A NaN score is the
    lowest.

    Args:
      detections: `Detections` of images, `[images, most]`.
      iou: the highest overlap that two detections of a class may have, in (0, 1].

    Returns:
      The same `Detections`, in the same order; those that are dropped are no longer
      `present`.

    Raises:
      InputError: if the threshold is out of range, or the shapes differ.

    >>> corners = jnp.array([[[0.0, 0, 4, 4], [0.0, 0, 4, 3], [4.0, 0, 8, 4]]])
    >>> labels, present = jnp.zeros((1, 3), jnp.int32), jnp.ones((1, 3), bool)
    >>> scores = jnp.array([[0.5, 0.9, 0.1]])
    >>> suppress(Detections(corners, labels, scores, present)).present.tolist()
    [[False, True, True]]

    Source: Felzenszwalb et al., "Object Detection with Discriminatively Trained
    Part-Based Models", TPAMI, 2010.
    """
    limit = check_iou("iou", iou)
    _check_shapes(detections)
    kept = jax.vmap(lambda image: _kept(image, limit))(detections)
    return detections._replace(present=kept)


def _kept(image: Detections, limit: float) -> Array:
    """Which detections of ONE image stay, `bool[most]`."""
    order = jnp.argsort(-image.scores, stable=True)
    corners, labels, _, present = jax.tree.map(lambda x: x[order], image)
    places = jnp.arange(len(labels))
    rivals = (overlaps(corners, corners) > limit) & (labels[:, None] == labels[None])
    rivals &= places[:, None] < places[None]  # a row drops only what comes after it

    def decide(i: Array, kept: Array) -> Array:
        return kept & ~(rivals[i] & kept[i])

    kept = jax.lax.fori_loop(0, len(labels), decide, present)
    return jnp.zeros_like(kept).at[order].set(kept)


def _check_shapes(detections: Detections) -> None:
    shape = detections.scores.shape
    expected = [(*shape, 4), shape, shape, shape]
    if len(shape) != 2 or [x.shape for x in detections] != expected:
        raise InputError(
            "suppress needs Detections of corners [images, most, 4] and labels, scores "
            f"and present [images, most], got {[x.shape for x in detections]}"
        )
