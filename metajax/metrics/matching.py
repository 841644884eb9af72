"""Matching detections with the labelled objects of images, as COCO's evaluation does.

The rules are those of pycocotools: of each image and class on its own, detections by
falling score, of equal scores the one with the lower index first, take the object that
they overlap most of those that are free and that they overlap enough; of equal overlaps
the one with the higher index.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.detection import Boxes, Detections, overlaps
from metajax.types import Array

TOLERANCE = 1e-6  # IoU in float32 is exact to some 4e-7


class Matches(NamedTuple):
    """What a task contributes: its detections, by falling score in each image.

    Attributes:
      scores: `float[images, most]`.
      labels: the class of each, `int32[images, most]`.
      counted: which are neither padding nor over the limit, `bool[images, most]`.
      matched: whether each takes an object, at each threshold of the overlap,
        `bool[images, most, thresholds]`.
      objects: how many there are of each class, `int32[classes]`.
      unknown: how many objects or detections have a label that is no class, `int32`.
    """

    scores: Array
    labels: Array
    counted: Array
    matched: Array
    objects: Array
    unknown: Array


def match(
    detections: Detections, boxes: Boxes, thresholds: Array, *, classes: int, most: int
) -> Matches:
    """Matches the detections of one task with its labelled objects.

    Overlaps are computed in float32, and one that is below a threshold by at most 1e-6
    reaches it: boxes whose overlap is the threshold itself, as that of whole pixels may
    be, match on any device. pycocotools computes in float64, without that margin.

    Args:
      detections: `[images, most]`.
      boxes: the objects, `[images, objects]`.
      thresholds: of intersection over union, `float32[thresholds]`.
      classes: the number of classes.
      most: how many detections of each image and class count, those of the highest
        scores.

    Returns:
      `Matches`.

    >>> corners = jnp.array([[[0.0, 0, 2, 2], [0.0, 0, 2, 1]]])
    >>> labels, present = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    >>> detections = Detections(corners, labels, jnp.array([[0.5, 0.6]]), present)
    >>> boxes = Boxes(*(x[:, :1] for x in (corners, labels, present)))
    >>> match(detections, boxes, jnp.array([0.5, 0.6]), classes=1, most=9).matched
    Array([[[ True, False], [False,  True]]], dtype=bool)
    """
    order = jnp.argsort(-detections.scores, axis=1, stable=True)
    detections = jax.vmap(lambda image, i: jax.tree.map(lambda x: x[i], image))(
        detections, order
    )
    members = jax.nn.one_hot(detections.labels, classes, dtype=jnp.int32)
    members *= detections.present[..., None].astype(jnp.int32)
    before = jnp.cumsum(members, axis=1)  # of its class, itself included
    counted = jnp.any((members > 0) & (before <= most), axis=-1)
    objects = jax.nn.one_hot(boxes.labels, classes, dtype=jnp.int32)
    objects *= boxes.present[..., None].astype(jnp.int32)
    known = jnp.sum(members) + jnp.sum(objects)
    unknown = jnp.sum(detections.present) + jnp.sum(boxes.present) - known
    matched = jax.vmap(_matched, (0, 0, 0, None))(
        detections, counted, boxes, thresholds - TOLERANCE
    )
    return Matches(
        detections.scores,
        detections.labels,
        counted,
        matched,
        jnp.sum(objects, axis=(0, 1), dtype=jnp.int32),
        unknown.astype(jnp.int32),
    )


def _matched(
    detections: Detections, counted: Array, boxes: Boxes, enough: Array
) -> Array:
    """Of ONE image, by falling score: `bool[most, thresholds]`."""
    shares = overlaps(*(x.corners.astype(jnp.float32) for x in (detections, boxes)))
    may = detections.labels[:, None] == boxes.labels[None]
    may &= counted[:, None] & boxes.present[None]

    def take(free: Array, one: tuple[Array, Array]) -> tuple[Array, Array]:
        share, may = one
        near = free & may[None] & (share[None] >= enough[:, None])
        best = jnp.max(jnp.where(near, share[None], 0), axis=1, initial=0)
        near &= share[None] == best[:, None]
        last = jnp.max(jnp.where(near, places[None], -1), axis=1, initial=-1)
        return free & (places[None] != last[:, None]), last >= 0

    places = jnp.arange(len(boxes.labels))
    free = jnp.ones((len(enough), len(places)), bool)
    return jax.lax.scan(take, free, (shares, may))[1]
