"""Objects as the points at their centres: what a detector predicts and is taught."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.detection.boxes import Boxes, areas
from metajax.ops.precision import product
from metajax.types import Array

OVERLAP = 0.3  # of the worst box that the heat of an object is to stand for


class CentreMaps(NamedTuple):
    """The outputs of a detector, before `decode`: maps of `stride` x `stride` pixels.

    Sizes and offsets are in cells of the map: times the stride, they are pixels.

    Attributes:
      heat: logits of an object of the class having its centre in the cell,
        `float[images, rows, columns, ways]`.
      size: the (width, height) of that object, `float[images, rows, columns, 2]`.
      offset: from the upper left corner of the cell to the centre, (right, down),
        `float[images, rows, columns, 2]`.
    """

    heat: Array
    size: Array
    offset: Array


class CentreTargets(NamedTuple):
    """The `CentreMaps` that ONE image should have, and where they count.

    Attributes:
      heat: Y, 1 at a centre and less around it, `float[rows, columns, ways]`.
      centres: where an object of the class has its centre, `bool[rows, columns, ways]`.
      size: `float[rows, columns, 2]`; zero where no object has its centre.
      offset: likewise.
    """

    heat: Array
    centres: Array
    size: Array
    offset: Array


def centre_targets(boxes: Boxes, shape: tuple[int, ...], stride: int) -> CentreTargets:
    """What a detector should predict of ONE image.

      Y_yxk = max_m exp(-((x - x_m)² + (y - y_m)²)/(2 σ_m²)),   m of class k
      σ = (2 r + 1)/6,   (w - 2 r)(h - 2 r) = 0.3 w h

    (x_m, y_m) is the cell of the centre; r is the shift of two corners by which a box
    still overlaps the object by at least 0.3. An object whose centre is outside the map
    belongs to the nearest cell. Where several have one cell, whatever their classes,
    size and offset are those of the smallest, and of the first among equals.

    Args:
      boxes: of one image, without the axis of images.
      shape: (rows, columns, ways).
      stride: the side of a cell in pixels.

    Returns:
      `CentreTargets`, of the dtype of the corners. They are constants: no derivative
      passes to the boxes.

    >>> box = Boxes(jnp.array([[0.0, 0, 8, 8]]), jnp.array([0]), jnp.array([True]))
    >>> targets = centre_targets(box, (2, 3, 1), stride=4)
    >>> targets.centres[:, :, 0].astype(int).tolist(), targets.size[1, 1].tolist()
    ([[0, 0, 0], [0, 1, 0]], [2.0, 2.0])

    Source: Zhou et al., "Objects as Points" (CenterNet), 2019, section 3, for σ its
    code; Law & Deng, "CornerNet", ECCV 2018, section 3.2, for r and 0.3.
    """
    rows, columns, ways = shape
    corners = jax.lax.stop_gradient(boxes.corners) / stride
    sides = jnp.maximum(corners[:, 2:] - corners[:, :2], 0)
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    last = jnp.array([[columns - 1, rows - 1]], corners.dtype)
    cell = jnp.clip(jnp.floor(middle), 0, last)
    width = 2 * _spread(sides)[:, None] ** 2

    def squares(axis: int, length: int) -> Array:
        return (jnp.arange(length, dtype=cell.dtype)[None] - cell[:, axis, None]) ** 2

    across, down = squares(0, columns), squares(1, rows)
    bumps = jnp.exp(-down / width)[:, :, None] * jnp.exp(-across / width)[:, None]
    here = (down == 0)[:, :, None] & (across == 0)[:, None]
    classes = boxes.labels[:, None] == jnp.arange(ways, dtype=boxes.labels.dtype)[None]
    members = (classes & boxes.present[:, None])[:, None, None]
    heat = jnp.max(jnp.where(members, bumps[..., None], 0), 0, initial=0)
    owners = here & _owns(cell, areas(corners), boxes.present)[:, None, None]
    owners = owners.reshape(len(owners), rows * columns).astype(corners.dtype).T
    size, offset = (
        product(owners, values).reshape(rows, columns, 2)
        for values in (sides, middle - cell)
    )
    return CentreTargets(heat, jnp.any(here[..., None] & members, 0), size, offset)


def _spread(sides: Array) -> Array:
    """σ of each object, from its width and height."""
    half, area = jnp.sum(sides, 1), jnp.prod(sides, 1)
    root = jnp.sqrt(jnp.maximum(half**2 - 4 * (1 - OVERLAP) * area, 0))
    return (half - root) / 12 + 1 / 6  # r is the numerator over 4


def _owns(cell: Array, area: Array, present: Array) -> Array:
    """Which objects are the smallest, or the first of the smallest, in their cells."""
    same = jnp.all(cell[:, None] == cell[None], -1) & present[None]
    number = jnp.arange(len(area))
    first = (area[:, None] == area[None]) & (number[None] < number[:, None])
    return present & ~jnp.any(same & ((area[None] < area[:, None]) | first), 1)
