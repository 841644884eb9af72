"""Which classes, turns and images an episode shows: small integers from a key."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.types import Array

ROTATIONS = (1, 4)


class Shape(NamedTuple):
    """The shape of an episode, and of the store that it is drawn from.

    Attributes:
      ways: classes an episode.
      shots: support images a class.
      queries: query images a class.
      rotations: 1, or 4 to count each class turned as four classes.
      per_class: images stored a class, padding included.
    """

    ways: int
    shots: int
    queries: int
    rotations: int
    per_class: int


class Shown(NamedTuple):
    """What an episode shows.

    Attributes:
      classes: places of classes in the store, `int32[ways]`.
      turns: by how many times 90 degrees each is turned, `int32[ways]`.
      images: places of images in their class, `int32[ways, shots + queries]`.
    """

    classes: Array
    turns: Array
    images: Array


def draw(key: Array, counts: Array, shape: Shape) -> Shown:
    """Draws what ONE episode shows.

    The same key draws the same integers on any backend, with 64-bit numbers on too. The
    uniform numbers are random bits (threefry's, JAX's default, are the same everywhere)
    as multiples of a power of two, so nothing is rounded; of equal ones, `top_k` takes
    the first.

    Args:
      key: a PRNG key.
      counts: the number of images of each class, `int32[classes]`.
      shape: the shape of the episode.

    Returns:
      A `Shown`: distinct classes, or turned classes, and distinct images of each.
    """
    class_key, image_key = jax.random.split(key)
    classes = len(counts)
    every = jnp.ones(classes * shape.rotations, jnp.float32)
    chosen = sample_distinct(class_key, every, shape.ways)
    characters, turns = chosen % classes, chosen // classes
    stored = (
        jnp.arange(shape.per_class, dtype=jnp.int32)[None] < counts[characters][:, None]
    )
    images = jax.vmap(sample_distinct, (0, 0, None))(
        jax.random.split(image_key, shape.ways),
        stored.astype(jnp.float32),
        shape.shots + shape.queries,
    )
    return Shown(characters, turns, images)


def draw_batch(key: Array, tasks: int, counts: Array, shape: Shape) -> Shown:
    """Draws what each of `tasks` episodes shows, with a leading task axis."""
    keys = jax.random.split(key, tasks)
    return jax.vmap(draw, (0, None, None))(keys, counts, shape)


def sample_distinct(key: Array, allowed: Array, n: int) -> Array:
    """Draws distinct indices.

    Args:
      key: a PRNG key.
      allowed: 1 at the indices that may be drawn and 0 at the others, `float32[size]`.
      n: how many, at most as many as are allowed.

    Returns:
      `int32[n]`.
    """
    # The order of uniform numbers is a random order; top_k beats a permutation.
    order = jax.random.uniform(key, allowed.shape, jnp.float32)
    return jax.lax.top_k(order - (1.0 - allowed), n)[1]
