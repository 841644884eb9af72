"""Glyphs: characters of random strokes, drawn on the device as they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count, check_one_of
from metajax.data.checking import once
from metajax.data.images import ImageStore, split_by_class
from metajax.data.sampling import StagedSampler
from metajax.types import Array, Episode

Split = Literal["train", "validation", "test"]

STROKES, POINTS = 3, 24  # a glyph's strokes, and the dots that draw each
WOBBLE = 0.025  # standard deviation of a control point, in image sides
TURN, SHEAR, STRETCH, SHIFT = 0.22, 0.22, 0.2, 0.09  # bounds of the affine jitter
RADIUS = (0.03, 0.045)  # of the pen, in image sides
SOFTNESS = 0.012  # of its edge


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Glyphs(StagedSampler):
    """The sampler that `glyphs` makes: `episodes(key, tasks) -> Episode`.

    Inputs are `float32[tasks, ways * n, size, size, 1]` in [0, 1], targets
    `int32[tasks, ways * n]`, grouped by class, with n = `shots` or `queries`.
    """

    ways: int = field(metadata={"static": True})
    shots: int = field(metadata={"static": True})
    queries: int = field(metadata={"static": True})
    split: np.int32
    size: int = field(metadata={"static": True})
    value: Callable[[Array], Array] = field(metadata={"static": True})

    def make_task(self, key: Array) -> Episode:
        """Makes an episode of a key."""
        class_key, *drawing_keys = jax.random.split(key, self.ways + 1)
        # Consecutive numbers, so that the classes of an episode are distinct.
        block = jax.random.bits(class_key) // jnp.uint32(self.ways)
        classes = block * jnp.uint32(self.ways) + jnp.arange(
            self.ways, dtype=jnp.uint32
        )
        split = partial(jax.random.split, num=self.shots + self.queries)
        keys = jax.vmap(split)(jnp.stack(drawing_keys))
        return split_by_class(self._drawings(classes, keys), self.shots)

    def _drawings(self, classes: Array, keys: Array) -> Array:
        """Drawings of the classes, one for each of a class's keys."""
        family = jax.random.fold_in(jax.random.key(0), self.split)
        of_classes = jax.vmap(jax.random.fold_in, (None, 0))(family, classes)
        parts = jax.vmap(partial(jax.random.split, num=3))(keys.reshape(-1))
        wobble, place, pen = parts.T
        # Of several at once: each call of the generator takes long to compile.
        u = _uniform(jnp.concatenate([of_classes, wobble]), STROKES * 3 * 2)
        v = _uniform(jnp.concatenate([place, pen]), 6)
        numbers = u[len(classes) :], v[: keys.size], v[keys.size :, 0]
        numbers = [x.reshape(*keys.shape, *x.shape[1:]) for x in numbers]
        distance = partial(_distance, self.size)
        of_class = jax.vmap(distance, (None, 0, 0, 0))
        return self.value(jax.vmap(of_class)(_strokes(u[: len(classes)]), *numbers))


def ink(distance: Array) -> Array:
    """How bright a pixel is, in [0, 1], by its distance from the edge of the pen.

    >>> ink(jnp.array([-1.0, 0.0])).tolist()
    [1.0, 0.5]
    """
    return jax.nn.sigmoid(-distance / SOFTNESS)


def signed_distance(distance: Array) -> Array:
    """The distance to the edge of the pen, in image sides: below 0 where there is ink.

    >>> signed_distance(jnp.array(-0.5)).tolist()
    -0.5
    """
    return distance


def glyphs(
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    *,
    split: Split = "train",
    size: int = 28,
    value: Callable[[Array], Array] = ink,
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
      value: what a pixel shows of its distance from the pen: `ink`, or the
        `signed_distance` itself.

    Returns:
      A sampler.

    Raises:
      InputError: for a number below 1 or an unknown split.

    >>> glyphs(ways=5, shots=1)(jax.random.key(0), 2).support.inputs.shape
    (2, 5, 28, 28, 1)
    """
    counts = dict(ways=ways, shots=shots, queries=queries, size=size)
    for name, count in counts.items():
        check_count(name, count, least=1)
    splits = get_args(Split)
    check_one_of("split", split, splits)
    return Glyphs(ways, shots, queries, np.int32(splits.index(split)), size, value)


def single_glyphs(
    *, split: Split = "train", size: int = 28, value: Callable[[Array], Array] = ink
) -> Glyphs:
    """Episodes of one support image and no queries, for `metajax.data.fields`.

    Args:
      split: see `glyphs`.
      size: see `glyphs`.
      value: see `glyphs`.

    Returns:
      A sampler.

    Raises:
      InputError: see `glyphs`.

    >>> single_glyphs(size=8)(jax.random.key(0), 3).support.inputs.shape
    (3, 1, 8, 8, 1)
    """
    return replace(glyphs(1, 1, split=split, size=size, value=value), queries=0)


def glyph_store(
    split: Split = "train", classes: int = 200, per_class: int = 20, *, size: int = 28
) -> ImageStore:
    """Drawings of some glyphs, for samplers that take a store.

    Args:
      split: "train", "validation" or "test".
      classes: how many.
      per_class: drawings of each; at least 2.
      size: the height and width of the images in pixels.

    Returns:
      An `ImageStore`, always the same for the same arguments.

    Raises:
      InputError: see `glyphs`.

    >>> glyph_store("test", classes=3, per_class=2).images.shape
    (3, 2, 28, 28, 1)
    """
    check_count("per_class", per_class, least=2)
    episodes = glyphs(classes, per_class - 1, 1, split=split, size=size)
    drawn = once(lambda key: episodes(key, 1))(jax.random.key(0))
    sides = [np.asarray(x.inputs[0]) for x in drawn]
    each = [x.reshape(classes, -1, size, size, 1) for x in sides]
    images = np.round(255 * np.concatenate(each, 1)).astype(np.uint8)
    names = tuple(f"glyph{number:04d}" for number in range(classes))
    return ImageStore(images, np.full(classes, per_class), names)


def _strokes(u: Array) -> Array:
    """Control points about the centre, in sides, `[classes, strokes, 3, 2]`."""
    return _between(u, -0.38, 0.38).reshape(-1, STROKES, 3, 2)


def _distance(
    size: int, strokes: Array, wobble: Array, place: Array, pen: Array
) -> Array:
    """Of one drawing of a class, `float32[size, size, 1]`, by numbers in [0, 1).

    From each pixel to the edge of the pen's trace, in image sides, below 0 inside.
    """
    strokes = strokes + WOBBLE * _normal(wobble).reshape(strokes.shape)
    dots = _place(place, _bezier(strokes).reshape(-1, 2))
    centres = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size - 0.5
    rows = centres[:, None, None] - dots[None, None, :, 1]
    columns = centres[None, :, None] - dots[None, None, :, 0]
    distance = jnp.sqrt(jnp.min(rows**2 + columns**2, axis=-1))
    return (distance - _between(pen, *RADIUS))[..., None]


def _bezier(strokes: Array) -> Array:
    """`POINTS` dots along each curve, `[strokes, points, 2]`."""
    t = jnp.linspace(0.0, 1.0, POINTS)[None, :, None]
    a, b, c = (strokes[:, None, i] for i in range(3))
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c


def _place(u: Array, dots: Array) -> Array:
    """Turns, slants, stretches and shifts the dots `[n, 2]` at random."""
    u = _between(u, -1.0, 1.0)
    cos, sin = jnp.cos(TURN * u[0]), jnp.sin(TURN * u[0])
    turn = jnp.stack([cos, -sin, sin, cos]).reshape(2, 2)
    x, y = (dots @ turn).T
    slanted = jnp.stack([x + SHEAR * u[1] * y, y], axis=-1)
    stretch = 1.0 + STRETCH * u[2:4]
    return slanted * stretch[None] + SHIFT * u[4:6][None]


def _uniform(keys: Array, count: int) -> Array:
    """So many numbers in [0, 1) of each key."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)


def _between(u: Array, low: float, high: float) -> Array:
    """What `jax.random.uniform` makes of numbers in [0, 1), to the last bit."""
    least, most = jnp.float32(low), jnp.float32(high)
    return jnp.maximum(least, u * (most - least) + least)


def _normal(u: Array) -> Array:
    """What `jax.random.normal` makes of them."""
    above = np.nextafter(np.float32(-1), np.float32(0))
    return jnp.float32(np.sqrt(2)) * jax.lax.erf_inv(_between(u, above, 1.0))
