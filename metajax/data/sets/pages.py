"""Pages of characters, pasted one on another: images, masks and boxes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.sets._pasting import bounds, extent, matrix, render, spread
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

    and its ink then to a place where all of it is on the page, if it fits.

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
        ink = render(drawing, turn, shift, page.side, page.size)
        opacity = jnp.minimum(ink / (2 * INK), 1.0)[..., None]
        covered = ink > INK
        image = image + opacity * (colour[None, None] - image)
        return (image, jnp.where(covered, label, mask)), bounds(covered)

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
    """The matrix, the centre and the colour of each character."""
    count = len(drawings)
    # Of one draw: each call of the generator takes long to compile.
    columns = 4 + 2 * page.places + page.channels
    u = jax.random.uniform(key, (count, columns), jnp.float32)
    u, v, colours = jnp.split(u, [4, 4 + 2 * page.places], axis=1)
    u, v = 2 * u - 1, v.reshape(count, page.places, 2)
    tilts = math.radians(page.rotation), math.radians(page.shear)
    turns = jax.vmap(lambda u: matrix(u, *tilts, page.scale))(u)
    margin = 0.5 * page.side / drawings.shape[1] * page.scale
    extents = jax.vmap(
        lambda drawing, turn: extent(drawing > INK, turn, page.side, margin)
    )(drawings, turns)
    sides = extents[:, 2:] - extents[:, :2]
    spare = page.size - sides
    corners = spare / 2 if centred else spread(v * spare[:, None], sides)
    if page.channels == 1:
        colours = jnp.ones_like(colours)
    return turns, corners - extents[:, :2], colours
