"""Glyphs: characters of random strokes, drawn on the device as they are asked for."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.images import split_by_class
from metajax.sampling import OfKeys
from metajax.types import Array, Episode, check_count, check_one_of

Split = Literal["train", "validation", "test"]

STROKES, POINTS = 3, 24  # a glyph's strokes, and the dots that draw each
WOBBLE = 0.025  # standard deviation of a control point, in image sides
TURN, SHEAR, STRETCH, SHIFT = 0.22, 0.22, 0.2, 0.09  # bounds of the affine jitter
RADIUS = (0.03, 0.045)  # of the pen, in image sides
SOFTNESS = 0.012  # of its edge


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Glyphs(OfKeys):
    """The sampler that `glyphs` makes: `episodes(key, tasks) -> Episode`.

    Inputs are `float32[tasks, ways * n, size, size, 1]` in [0, 1], targets
    `int32[tasks, ways * n]`, grouped by class, with n = `shots` or `queries`.
    """

    ways: int = field(metadata={"static": True})
    shots: int = field(metadata={"static": True})
    queries: int = field(metadata={"static": True})
    split: np.int32
    size: int = field(metadata={"static": True})

    def _episode(self, key: Array) -> Episode:
        class_key, *drawing_keys = jax.random.split(key, self.ways + 1)
        # Consecutive numbers, so that the classes of an episode are distinct.
        block = jax.random.bits(class_key) // jnp.uint32(self.ways)
        classes = block * jnp.uint32(self.ways) + jnp.arange(
            self.ways, dtype=jnp.uint32
        )
        keys = jax.vmap(lambda k: jax.random.split(k, self.shots + self.queries))(
            jnp.stack(drawing_keys)
        )
        images = jax.vmap(self._drawings)(classes, keys)
        return split_by_class(images, self.shots)

    def _drawings(self, number: Array, keys: Array) -> Array:
        family = jax.random.fold_in(jax.random.key(0), self.split)
        strokes = _glyph(jax.random.fold_in(family, number))
        return jax.vmap(lambda key: _draw(key, strokes, self.size))(keys)


def glyphs(
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    *,
    split: Split = "train",
    size: int = 28,
) -> Glyphs:
    """Classification of procedural characters: an endless family like Omniglot.

    A class is three strokes, each a quadratic Bézier curve; each drawing of it has its
    own wobble of the control points, slant, size, place and pen. Ink is bright, in
    [0, 1]. There are 2³² classes a split, and no class is in two splits.

    Args:
      ways: classes an episode.
      shots: support images a class.
      queries: query images a class.
      split: "train", "validation" or "test".
      size: the height and width of the images in pixels.

    Returns:
      A sampler.

    Raises:
      InputError: for a number below 1 or an unknown split.

    >>> glyphs(ways=5, shots=1)(jax.random.key(0), 2).support.inputs.shape
    (2, 5, 28, 28, 1)
    """
    for name, value in dict(ways=ways, shots=shots, queries=queries, size=size).items():
        check_count(name, value, least=1)
    splits = get_args(Split)
    check_one_of("split", split, splits)
    return Glyphs(ways, shots, queries, np.int32(splits.index(split)), size)


def _glyph(key: Array) -> Array:
    """The control points of a class, `[strokes, 3, 2]`, about the centre, in sides."""
    return jax.random.uniform(key, (STROKES, 3, 2), minval=-0.38, maxval=0.38)


def _draw(key: Array, strokes: Array, size: int) -> Array:
    """One drawing of a class, `float32[size, size, 1]`."""
    wobble_key, place_key, pen_key = jax.random.split(key, 3)
    strokes = strokes + WOBBLE * jax.random.normal(wobble_key, strokes.shape)
    dots = _place(place_key, _bezier(strokes).reshape(-1, 2))
    centres = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size - 0.5
    rows = centres[:, None, None] - dots[None, None, :, 1]
    columns = centres[None, :, None] - dots[None, None, :, 0]
    distance = jnp.sqrt(jnp.min(rows**2 + columns**2, axis=-1))
    radius = jax.random.uniform(pen_key, minval=RADIUS[0], maxval=RADIUS[1])
    return jax.nn.sigmoid((radius - distance) / SOFTNESS)[..., None]


def _bezier(strokes: Array) -> Array:
    """`POINTS` dots along each curve, `[strokes, points, 2]`."""
    t = jnp.linspace(0.0, 1.0, POINTS)[None, :, None]
    a, b, c = (strokes[:, None, i] for i in range(3))
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c


def _place(key: Array, dots: Array) -> Array:
    """Turns, slants, stretches and shifts the dots `[n, 2]` at random."""
    u = jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)
    cos, sin = jnp.cos(TURN * u[0]), jnp.sin(TURN * u[0])
    turn = jnp.stack([cos, -sin, sin, cos]).reshape(2, 2)
    x, y = (dots @ turn).T
    slanted = jnp.stack([x + SHEAR * u[1] * y, y], axis=-1)
    stretch = 1.0 + STRETCH * u[2:4]
    return slanted * stretch[None] + SHIFT * u[4:6][None]
