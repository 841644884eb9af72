"""A class-indexed image store, and episodes sampled from it on the device."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.data.drawing import ROTATIONS, Shape, check_shape, draw
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
      InputError: if there are fewer classes than `ways`, or a class with fewer images
        than `shots + queries`; the message says how many there are.

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
    classes, per_class = store.images.shape[:2]
    shape = Shape(ways, shots, queries, rotations, per_class)
    smallest = int(np.argmin(store.counts))
    check_shape(shape, classes, int(store.counts[smallest]), store.names[smallest])
    return shape


def check_store(store: ImageStore, rotations: int) -> None:
    """Checks the shapes of a store, and that its images can be turned so often.

    Raises:
      InputError: if they are not as `ImageStore` has them, or cannot.
    """
    if check_count("rotations", rotations, least=1) not in ROTATIONS:
        raise InputError(f"rotations must be 1 or 4, got {rotations!r}")
    images, counts, names = store
    shape, counts = getattr(images, "shape", ()), np.asarray(counts)
    if len(shape) != 5 or images.dtype != np.uint8 or 0 in shape:
        kind = getattr(images, "dtype", type(images).__name__)
        raise InputError(
            "images must be uint8[classes, per_class, height, width, channels], none "
            f"of them 0, got {kind}{list(shape)}"
        )
    classes, per_class, height, width, _ = shape
    if counts.shape != (classes,) or len(names) != classes:
        raise InputError(
            f"counts and names must have one entry for each of {classes} classes, got "
            f"{counts.shape} and {len(names)}"
        )
    if (
        counts.dtype.kind not in "iu"
        or not 1 <= counts.min() <= counts.max() <= per_class
    ):
        raise InputError(
            f"counts must be at most the {per_class} images stored a class, and whole "
            f"numbers of at least 1, got {counts.dtype} of {counts.min()} to "
            f"{counts.max()}"
        )
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
