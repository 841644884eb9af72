"""The geometry of drawings on a page, and what is seen of them."""

import jax
import jax.numpy as jnp

from metajax.types import Array


def matrix(u: Array, rotation: float, shear: float, scale: float) -> Array:
    """What becomes of a drawing's axes, by numbers in [-1, 1).

    See `metajax.data.sets.pages.paint`: φ = rotation u_0, θ = shear u_1, a = scale^u_2,
    b = scale^u_3.

    Args:
      u: `float[4]`.
      rotation: in radians.
      shear: in radians.
      scale: of an axis.

    Returns:
      `float[2, 2]`, from (x, y) to (x', y').
    """
    turn, lean = rotation * u[0], shear * u[1]
    a, b = scale ** u[2], scale ** u[3]
    rows = [
        [a * jnp.cos(turn + lean), b * jnp.sin(turn - lean)],
        [-a * jnp.sin(turn + lean), b * jnp.cos(turn - lean)],
    ]
    return jnp.stack([jnp.stack(row) for row in rows])


def extent(inked: Array, turn: Array, side: float, margin: float) -> Array:
    """(left, top, right, bottom) of the ink about the drawing's centre.

    Args:
      inked: which pixels of the drawing have ink, `bool[height, width]`.
      turn: of `matrix`.
      side: rows and columns of the drawing, in pixels of the page.
      margin: about the middles of pixels.

    Returns:
      `float[4]`, in pixels of the page.
    """
    height, width = inked.shape
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width - 0.5) * side
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height - 0.5) * side
    points = jnp.stack(jnp.meshgrid(x, y), -1).reshape(-1, 2) @ turn.T
    there = inked.reshape(-1, 1)
    low = jnp.min(jnp.where(there, points, jnp.inf), 0)
    high = jnp.max(jnp.where(there, points, -jnp.inf), 0)
    low, high = (jnp.where(jnp.any(inked), x, jnp.zeros_like(x)) for x in (low, high))
    return jnp.concatenate([low - margin, high + margin])


def spread(corners: Array, sides: Array) -> Array:
    """The place of each ink where it covers least of the boxes before it.

    Args:
      corners: upper left ones to choose from, `float[inks, places, 2]`.
      sides: of each ink's box, `float[inks, 2]`.

    Returns:
      Those that are chosen, `float[inks, 2]`.
    """
    if corners.shape[1] == 1:
        return corners[:, 0]

    def place(boxes: Array, index: Array) -> tuple[Array, Array]:
        low = corners[index]
        high = low + sides[index][None]
        shared = jnp.minimum(high[:, None], boxes[None, :, 2:])
        shared = shared - jnp.maximum(low[:, None], boxes[None, :, :2])
        covered = jnp.sum(jnp.prod(jnp.maximum(shared, 0), -1), 1)
        best = jnp.argmin(covered)
        box = jnp.concatenate([low[best], high[best]])
        return boxes.at[index].set(box), low[best]

    boxes = jnp.zeros((len(corners), 4), corners.dtype)
    return jax.lax.scan(place, boxes, jnp.arange(len(corners)))[1]


def render(drawing: Array, turn: Array, shift: Array, side: int, size: int) -> Array:
    """The ink of each pixel of a page: bilinear, black beyond the drawing.

    Args:
      drawing: `float[height, width]`, in [0, 1].
      turn: of `matrix`.
      shift: (x, y) of the drawing's centre, in pixels of the page.
      side: rows and columns of the drawing before it is turned.
      size: rows and columns of the page.

    Returns:
      `float[size, size]`, in [0, 1].
    """
    height, width = drawing.shape
    middles = jnp.arange(size, dtype=jnp.float32) + 0.5
    across, down = middles - shift[0], middles - shift[1]
    (a, b), (c, d) = turn
    scale = jnp.array([width, height], jnp.float32) / (side * (a * d - b * c))
    # The inverse of the matrix, in the drawing's own pixels.
    x = (d * across[None] - b * down[:, None]) * scale[0] + (width - 1) / 2
    y = (a * down[:, None] - c * across[None]) * scale[1] + (height - 1) / 2
    left, top = jnp.floor(x), jnp.floor(y)
    s, t = x - left, y - top
    row = jnp.clip(top.astype(jnp.int32) + 1, 0, height)
    column = jnp.clip(left.astype(jnp.int32) + 1, 0, width)
    values = _neighbours(drawing)[row * (width + 1) + column]
    weights = jnp.stack([(1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t], -1)
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    return jnp.where(inside, jnp.sum(values * weights, -1), 0.0)


def _neighbours(drawing: Array) -> Array:
    """The four neighbours of each place in one row, so that a pixel gathers once."""
    height, width = drawing.shape
    padded = jnp.pad(drawing, 1)
    corners = [
        padded[i : i + height + 1, j : j + width + 1] for i in (0, 1) for j in (0, 1)
    ]
    return jnp.stack(corners, -1).reshape(-1, 4)


def bounds(covered: Array) -> Array:
    """(left, top, right, bottom) of the pixels of a mask; zeros of an empty one.

    >>> bounds(jnp.array([[False, True, True], [False, False, False]])).tolist()
    [1.0, 0.0, 3.0, 1.0]
    """

    def ends(line: Array) -> tuple[Array, Array]:
        places = jnp.arange(len(line))
        low = jnp.min(jnp.where(line, places, len(line)))
        return low, jnp.max(jnp.where(line, places + 1, 0))

    (left, right), (top, bottom) = ends(covered.any(0)), ends(covered.any(1))
    box = jnp.stack([left, top, right, bottom]).astype(jnp.float32)
    return jnp.where(covered.any(), box, jnp.zeros_like(box))
