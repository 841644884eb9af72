"""Which classes and images a dense episode shows: small integers from a key."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.drawing import sample_distinct
from metajax.types import Array


class DenseShape(NamedTuple):
    """The shape of a dense episode, and of the store that it is drawn from.

    Attributes:
      ways: classes an episode.
      shots: support images a class.
      queries: query images a class.
      images: images stored.
    """

    ways: int
    shots: int
    queries: int
    images: int


class Members(NamedTuple):
    """The images that contain each class, an image perhaps several.

    Attributes:
      classes: numbers of the classes in the store, `int32[classes]`.
      images: numbers of the images with each, padded, `int32[classes, per_class]`.
      counts: how many there are of each, `int32[classes]`.
    """

    classes: Array
    images: Array
    counts: Array


class DenseShown(NamedTuple):
    """What a dense episode shows.

    Attributes:
      classes: numbers of its classes in the store, `int32[ways]`.
      images: numbers of its images in the store: the support images by class, then the
        query images by class, `int32[ways * (shots + queries)]`.
    """

    classes: Array
    images: Array


def list_members(contains: np.ndarray, classes: np.ndarray) -> Members:
    """Lists the images with each class.

    Args:
      contains: which images contain which class, `bool[classes, images]`.
      classes: the number of each class in the store.

    Returns:
      `Members`, on the default device.

    >>> members = list_members(np.array([[True, False, True]]), np.array([4]))
    >>> members.images.tolist(), members.counts.tolist()
    ([[0, 2]], [2])
    """
    counts = contains.sum(1)
    images = np.zeros((len(contains), counts.max()), np.int32)
    for row, count, own in zip(images, counts, contains):
        row[:count] = np.flatnonzero(own)
    return Members(*(jnp.asarray(x, jnp.int32) for x in (classes, images, counts)))


def draw_dense(key: Array, members: Members, shape: DenseShape) -> DenseShown:
    """Draws what ONE dense episode shows.

    The same key draws the same integers on any backend. Images of a class are distinct,
    and no query image is a support image, of any class.

    Args:
      key: a PRNG key.
      members: the images with each class.
      shape: of the episode; there are enough images, see `dense_episodes`.
    """
    class_key, support_key, query_key = jax.random.split(key, 3)
    every = jnp.ones(len(members.counts), jnp.float32)
    chosen = sample_distinct(class_key, every, shape.ways)
    images = members.images[chosen]
    place = jnp.arange(images.shape[1], dtype=jnp.int32)
    stored = place[None] < members.counts[chosen][:, None]

    def sample(key: Array, allowed: Array, n: int) -> Array:
        keys = jax.random.split(key, shape.ways)
        floats = allowed.astype(jnp.float32)
        places = jax.vmap(sample_distinct, (0, 0, None))(keys, floats, n)
        return jnp.take_along_axis(images, places, 1).reshape(-1)

    support = sample(support_key, stored, shape.shots)
    taken = jnp.zeros(shape.images, bool).at[support].set(True)
    query = sample(query_key, stored & ~taken[images], shape.queries)
    return DenseShown(members.classes[chosen], jnp.concatenate([support, query]))


def draw_dense_batch(
    key: Array, tasks: int, members: Members, shape: DenseShape
) -> DenseShown:
    """Draws what each of `tasks` episodes shows, with a leading task axis."""
    keys = jax.random.split(key, tasks)
    return jax.vmap(draw_dense, (0, None, None))(keys, members, shape)
