"""A class-indexed image store, and episodes sampled from it on the device."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data._enough import (
    check_counts,
    check_enough,
    check_images,
    check_rotations,
)
from metajax.data.drawing import Shape, draw
from metajax.data.records import Records
from metajax.data.sampling import StagedSampler
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode


class ImageStore(NamedTuple):
    """Images by class.

    Attributes:
      images: `uint8[classes, per_class, height, width, channels]`; classes with fewer
        images are padded. An array, a `np.memmap`, or `Records`.
      counts: the number of images of each class, `int32[classes]`.
      names: the name of each class.
    """

    images: np.ndarray | Records
    counts: np.ndarray
    names: tuple[str, ...]

    def take(self, classes: np.ndarray) -> "ImageStore":
        """Some of the classes, by their places, in memory."""
        every = np.arange(self.images.shape[1])
        return ImageStore(
            self.images[classes[:, None], every[None]],
            np.asarray(self.counts)[classes],
            tuple(self.names[place] for place in classes),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Images(StagedSampler):
    """The sampler that `image_episodes` makes: `episodes(key, tasks) -> Episode`.

    Inputs are `float32[tasks, ways * n, height, width, channels]` in [0, 1], targets
    `int32[tasks, ways * n]`, grouped by class, with n = `shots` or `queries`.

    Attributes:
      images: `uint8[classes, per_class, height, width, channels]`, on the device.
      counts: `int32[classes]`.
      shape: of an episode.
    """

    images: Array
    counts: Array
    shape: Shape = field(metadata={"static": True})

    def make_task(self, key: Array) -> Episode:
        """Makes an episode of a key."""
        drawn = draw(key, self.counts, self.shape)
        images = self.images[drawn.classes[:, None], drawn.images]
        return as_episode(images, drawn.turns, self.shape)


def image_episodes(
    store: ImageStore, ways: int, shots: int, queries: int, *, rotations: int = 1
) -> Images:
    """Few-shot classification episodes from a store of images.

    Each episode draws `ways` distinct classes, and from each `shots` support and
    `queries` query images without replacement. Label k is the k-th class drawn.

    Args:
      store: the images; they are put on the default device once.
      ways: classes an episode.
      shots: support images a class.
      queries: query images a class.
      rotations: 1, or 4 to count each class turned by 0, 90, 180 and 270 degrees as
        four classes, as is the custom for Omniglot.

    Returns:
      A sampler.

    Raises:
      InputError: if there are fewer classes than `ways`, or classes of fewer images
        than `shots + queries`, which `image_folder(min_per_class=...)` leaves out; the
        message says how many there are.

    >>> store = ImageStore(
    ...     np.zeros((6, 20, 28, 28, 1), np.uint8), np.full(6, 20), tuple("abcdef")
    ... )
    >>> episodes = image_episodes(store, ways=5, shots=1, queries=15)
    >>> episodes(jax.random.key(0), 4).query.inputs.shape
    (4, 75, 28, 28, 1)
    """
    shape = shape_of(store, ways, shots, queries, rotations=rotations)
    images, counts = jnp.asarray(store.images), jnp.asarray(store.counts, jnp.int32)
    return Images(images, counts, shape)


def shape_of(
    store: ImageStore, ways: int, shots: int, queries: int, *, rotations: int
) -> Shape:
    """The shape of episodes from a store.

    Args:
      store: the images.
      ways: see `image_episodes`.
      shots: see there.
      queries: see there.
      rotations: see there.

    Returns:
      A `Shape`.

    Raises:
      InputError: see there.
    """
    check_store(store, rotations)
    shape = Shape(ways, shots, queries, rotations, store.images.shape[1])
    check_enough(shape, np.asarray(store.counts), store.names)
    return shape


def check_store(store: ImageStore, rotations: int) -> None:
    """Checks the shapes of a store, and that its images can be turned so often.

    Raises:
      InputError: if they are not as `ImageStore` has them, or cannot.
    """
    check_rotations(rotations)
    check_images(store.images)
    shape = store.images.shape
    check_counts(np.asarray(store.counts), store.names, shape)
    height, width = shape[2:4]
    if rotations > 1 and height != width:
        raise InputError(
            f"rotations need square images, got {height}x{width}; use rotations=1"
        )


def as_episode(images: Array, turns: Array, shape: Shape) -> Episode:
    """ONE episode of images `uint8[ways, shots + queries, ...]`, turned as drawn."""
    if shape.rotations > 1:
        images = jax.vmap(rotate)(images, turns)
    return split_by_class(images.astype(jnp.float32) / 255.0, shape.shots)


def split_by_class(images: Array, shots: int) -> Episode:
    """Splits images `[ways, shots + queries, ...]` into support and query."""

    def batch(images: Array) -> Batch:
        ways, n = images.shape[:2]
        labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), n)
        return Batch(images.reshape(ways * n, *images.shape[2:]), labels)

    return Episode(batch(images[:, :shots]), batch(images[:, shots:]))


def rotate(images: Array, turns: Array) -> Array:
    """Turns `[n, size, size, channels]` by `turns` times 90 degrees, as `np.rot90`."""
    images = jnp.where(turns % 2 == 1, jnp.swapaxes(images, 1, 2), images)
    images = jnp.where((turns == 1) | (turns == 2), jnp.flip(images, 1), images)
    return jnp.where(turns >= 2, jnp.flip(images, 2), images)
