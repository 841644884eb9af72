"""From the maps of a detector to boxes."""

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.detection.boxes import Detections
from metajax.detection.centres import CentreMaps
from metajax.ops.masking import never
from metajax.types import Array


def decode(maps: CentreMaps, stride: int, most: int = 100) -> Detections:
    """The objects at the highest peaks of the heat, over all classes and places.

      (x, y) = stride (cell + offset),   (w, h) = stride size,   score = σ(heat)

    A peak is no lower than its eight neighbours in the map of its class. The first of
    equal neighbours, row by row, is the peak; so a flat map has one. A class whose heat
    is `never`, one without a shot, has none. Where the heat has a NaN, all scores are.

    Args:
      maps: the outputs of a detector.
      stride: the side of a cell of the maps in pixels.
      most: how many objects an image has at most.

    Returns:
      `Detections`, the most certain first, of which those past the last peak are not
      `present`. Boxes may reach over the edges of the image. Nothing is suppressed but
      the neighbours of peaks.

    Raises:
      InputError: if a number is not a whole one of at least 1.

    >>> heat = jnp.array([[0.0, 3.0, 1.0, 2.0]]).reshape(1, 1, 4, 1)
    >>> maps = CentreMaps(heat, jnp.full((1, 1, 4, 2), 2.0), jnp.zeros((1, 1, 4, 2)))
    >>> boxes = decode(maps, stride=4, most=3)
    >>> boxes.corners[0, :2].tolist(), boxes.present.tolist()
    ([[0.0, -4.0, 8.0, 4.0], [8.0, -4.0, 16.0, 4.0]], [[True, True, False]])

    Source: Zhou et al., "Objects as Points" (CenterNet), 2019, section 4.
    """
    check_count("stride", stride, least=1)
    check_count("most", most, least=1)
    images, rows, columns, ways = maps.heat.shape
    places = rows * columns
    bottom = never(maps.heat.dtype)
    heat = jnp.where(_peaks(maps.heat), maps.heat, bottom)
    flat = heat.reshape(images, places * ways)
    spare = max(0, most - places * ways)
    flat = jnp.pad(flat, ((0, 0), (0, spare)), constant_values=bottom)
    logits, index = jax.lax.top_k(flat, most)
    index = jnp.minimum(index, places * ways - 1)
    place, labels = index // ways, index % ways
    size, offset = (
        jnp.take_along_axis(x.reshape(images, places, 2), place[:, :, None], 1)
        for x in (maps.size, maps.offset)
    )
    cell = jnp.stack([place % columns, place // columns], -1).astype(size.dtype)
    middle, half = cell + offset, jnp.maximum(size, 0) / 2
    corners = stride * jnp.concatenate([middle - half, middle + half], -1)
    # A detector that diverged is to score NaN, not nothing.
    lost = jnp.any(jnp.isnan(maps.heat), (1, 2, 3))[:, None]
    scores = jnp.where(lost, jnp.nan, jax.nn.sigmoid(logits))
    return Detections(corners, labels, scores, (logits > bottom) | lost)


def _peaks(heat: Array) -> Array:
    """Where a map is above all earlier neighbours and not below all later ones."""
    _, rows, columns, _ = heat.shape
    low = jnp.pad(heat, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    peaks = jnp.ones_like(heat, bool)
    for i in range(3):
        for j in range(3):
            other = low[:, i : i + rows, j : j + columns]
            if (i, j) < (1, 1):
                peaks &= heat > other
            elif (i, j) > (1, 1):
                peaks &= heat >= other
    return peaks
