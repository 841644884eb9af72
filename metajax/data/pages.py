"""Pages of characters, pasted one on another: images, masks and boxes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.types import Array

INK = 0.25  # of a drawing, from which on it covers: thin strokes are half as bright


class Page(NamedTuple):
    """What a page looks like.

    Attributes:
      size: rows and columns, in pixels.
      side: rows and columns of a drawing before it is scaled, in pixels.
      rotation: the largest turn, in degrees.
      shear: the largest shear, in degrees.
      scale: the largest scale s of an axis, which is s^u, u ~ U[-1, 1].
      channels: 3 for random colours, 1 for white on black.
      places: places that are drawn for a character, of which it takes the one where it
        covers least of the boxes before it; 1 lets characters overlap at random.
    """

    size: int = 96
    side: int = 32
    rotation: float = 20.0
    shear: float = 10.0
    scale: float = 2.0
    channels: int = 3
    places: int = 1


PAGE = Page()


def check_page(page: Page) -> None:
    """Checks what a page looks like.

    Raises:
      InputError: if a number is out of range.
    """
    for name in ("size", "side", "places"):
        check_count(f"the {name} of a page", getattr(page, name), least=1)
    if page.side > page.size:
        raise InputError(
            f"the side of a drawing must be at most the size of its page, {page.size}, "
            f"got {page.side}"
        )
    for name, least in (("rotation", 0.0), ("shear", 0.0), ("scale", 1.0)):
        value = getattr(page, name)
        if not least <= value < math.inf:
            raise InputError(
                f"the {name} of a page must be at least {least}, got {value!r}"
            )
    if page.channels not in (1, 3):
        raise InputError(f"the channels of a page must be 1 or 3, got {page.channels}")


class Pasted(NamedTuple):
    """Characters to paste on a page, in their order: the last is on top.

    Attributes:
      drawings: bright ink on black, `float[characters, height, width]`, in [0, 1].
      labels: of each in the mask; 0 of those that are background.
    """

    drawings: Array
    labels: Array


class Painted(NamedTuple):
    """A page.

    Attributes:
      image: `float[size, size, channels]`, in [0, 1].
      mask: the label of each pixel's character, `int32[size, size]`.
      corners: the box of each character's ink, hidden or not: (left, top, right,
        bottom) in pixels, `float[characters, 4]`.
    """

    image: Array
    mask: Array
    corners: Array


def paint(key: Array, pasted: Pasted, page: Page, *, centred: bool = False) -> Painted:
    """Pastes characters on ONE black page, each turned, sheared, scaled and coloured.

    A drawing's axes x and y go to, with scales a and b, a turn φ and a shear θ,

      x' = a cos(φ + θ) x + b sin(φ - θ) y
      y' = -a sin(φ + θ) x + b cos(φ - θ) y

    and its ink then to a place where all of it is on the page.

    Args:
      key: a PRNG key.
      pasted: the characters.
      page: what the page looks like.
      centred: whether ink is put in the middle, not at a random place.

    Returns:
      A `Painted`.

    Source: Michaelis et al., "One-Shot Segmentation in Clutter", ICML 2018, section 4.
    """
    turns, shifts, colours = _drawn(key, pasted.drawings, page, centred=centred)

    def paste(carry: tuple[Array, Array], each: tuple) -> tuple[tuple, Array]:
        image, mask = carry
        drawing, label, turn, shift, colour = each
        ink = _rendered(page, drawing, turn, shift)
        opacity = jnp.minimum(ink / (2 * INK), 1.0)[..., None]
        covered = ink > INK
        image = image + opacity * (colour[None, None] - image)
        return (image, jnp.where(covered, label, mask)), _box(covered)

    blank = (
        jnp.zeros((page.size, page.size, page.channels), jnp.float32),
        jnp.zeros((page.size, page.size), jnp.int32),
    )
    each = (pasted.drawings, pasted.labels, turns, shifts, colours)
    (image, mask), corners = jax.lax.scan(paste, blank, each)
    return Painted(image, mask, corners)


def _drawn(
    key: Array, drawings: Array, page: Page, *, centred: bool
) -> tuple[Array, Array, Array]:
    """The matrix, the shift and the colour of each character."""
    count = len(drawings)
    keys = jax.random.split(key, 3)
    u = jax.random.uniform(keys[0], (count, 4), jnp.float32, -1.0, 1.0)
    turns = jax.vmap(_matrix, (None, 0))(page, u)
    extents = jax.vmap(_extent, (None, 0, 0))(page, drawings, turns)
    spare = jnp.maximum(page.size - (extents[:, 2:] - extents[:, :2]), 0.0)
    v = jax.random.uniform(keys[1], (count, page.places, 2))
    corners = spare / 2 if centred else _placed(v, extents, spare)
    colours = jax.random.uniform(keys[2], (count, page.channels))
    if page.channels == 1:
        colours = jnp.ones_like(colours)
    return turns, corners - extents[:, :2], colours


def _matrix(page: Page, u: Array) -> Array:
    """The matrix of `paint`, by numbers in [-1, 1): turn, shear, and two scales."""
    turn = math.radians(page.rotation) * u[0]
    shear = math.radians(page.shear) * u[1]
    a, b = page.scale ** u[2], page.scale ** u[3]
    rows = [
        [a * jnp.cos(turn + shear), b * jnp.sin(turn - shear)],
        [-a * jnp.sin(turn + shear), b * jnp.cos(turn - shear)],
    ]
    return jnp.stack([jnp.stack(row) for row in rows])


def _points(drawing: Array, side: int) -> Array:
    """(x, y) of a drawing's pixels about its centre, in pixels of a page."""
    height, width = drawing.shape
    x = ((jnp.arange(width, dtype=jnp.float32) + 0.5) / width - 0.5) * side
    y = ((jnp.arange(height, dtype=jnp.float32) + 0.5) / height - 0.5) * side
    return jnp.stack(jnp.meshgrid(x, y), -1).reshape(-1, 2)


def _extent(page: Page, drawing: Array, turn: Array) -> Array:
    """(left, top, right, bottom) of the ink about the drawing's centre."""
    points = _points(drawing, page.side) @ turn.T
    inked = drawing.reshape(-1, 1) > INK
    half = 0.5 * page.side / drawing.shape[0] * page.scale
    low = jnp.min(jnp.where(inked, points, jnp.inf), 0)
    high = jnp.max(jnp.where(inked, points, -jnp.inf), 0)
    any_ink = jnp.any(inked)
    low, high = (jnp.where(any_ink, x, jnp.zeros_like(x)) for x in (low, high))
    return jnp.concatenate([low - half, high + half])


def _placed(u: Array, extents: Array, spare: Array) -> Array:
    """The upper left corners (x, y) of the inks, `[characters, 2]`."""
    sides = extents[:, 2:] - extents[:, :2]
    corners = u * spare[:, None]
    if u.shape[1] == 1:
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

    boxes = jnp.zeros((len(u), 4), u.dtype)
    return jax.lax.scan(place, boxes, jnp.arange(len(u)))[1]


def _rendered(page: Page, drawing: Array, turn: Array, shift: Array) -> Array:
    """The ink of each pixel of the page, in [0, 1]: bilinear, black beyond."""
    height, width = drawing.shape
    middles = jnp.arange(page.size, dtype=jnp.float32) + 0.5
    across, down = middles - shift[0], middles - shift[1]
    (a, b), (c, d) = turn
    scale = jnp.array([width, height], jnp.float32) / (page.side * (a * d - b * c))
    # The inverse of the matrix, in the drawing's own pixels.
    x = (d * across[None] - b * down[:, None]) * scale[0] + (width - 1) / 2
    y = (a * down[:, None] - c * across[None]) * scale[1] + (height - 1) / 2
    left, top = jnp.floor(x), jnp.floor(y)
    s, t = x - left, y - top
    # The four neighbours of a place in one row, so that a pixel gathers once.
    padded = jnp.pad(drawing, 1)
    corners = [
        padded[i : i + height + 1, j : j + width + 1] for i in (0, 1) for j in (0, 1)
    ]
    table = jnp.stack(corners, -1).reshape(-1, 4)
    row = jnp.clip(top.astype(jnp.int32) + 1, 0, height)
    column = jnp.clip(left.astype(jnp.int32) + 1, 0, width)
    inside = (x > -1) & (x < width) & (y > -1) & (y < height)
    values = table[row * (width + 1) + column]
    weights = jnp.stack([(1 - s) * (1 - t), s * (1 - t), (1 - s) * t, s * t], -1)
    return jnp.where(inside, jnp.sum(values * weights, -1), 0.0)


def _box(covered: Array) -> Array:
    """(left, top, right, bottom) of the pixels of a mask; zeros of an empty one."""

    def ends(line: Array) -> tuple[Array, Array]:
        places = jnp.arange(len(line))
        low = jnp.min(jnp.where(line, places, len(line)))
        return low, jnp.max(jnp.where(line, places + 1, 0))

    (left, right), (top, bottom) = ends(covered.any(0)), ends(covered.any(1))
    box = jnp.stack([left, top, right, bottom]).astype(jnp.float32)
    return jnp.where(covered.any(), box, jnp.zeros_like(box))
