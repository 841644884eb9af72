"""A class-indexed image store, and episodes sampled from it on the device."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.types import Array, Batch, Episode, check_count

ROTATIONS = (1, 4)


class ImageStore(NamedTuple):
    """Images by class.

    Attributes:
      images: `uint8[classes, per_class, height, width, channels]`; classes with fewer
        images are padded.
      counts: the number of images of each class, `int32[classes]`.
      names: the name of each class.
    """

    images: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Images:
    """The sampler that `image_episodes` makes: `episodes(key, tasks) -> Episode`.

    Attributes:
      images: `uint8[classes, per_class, height, width, channels]`, on the device.
      counts: `int32[classes]`.
    """

    images: Array
    counts: Array
    ways: int = field(metadata={"static": True})
    shots: int = field(metadata={"static": True})
    queries: int = field(metadata={"static": True})
    rotations: int = field(metadata={"static": True})

    def __call__(self, key: Array, tasks: int) -> Episode:
        """Samples `tasks` episodes.

        Inputs are `float32[tasks, ways * n, height, width, channels]` in [0, 1],
        targets `int32[tasks, ways * n]`, grouped by class, with n = `shots` or
        `queries`.
        """
        return jax.vmap(self._episode)(jax.random.split(key, tasks))

    def _episode(self, key: Array) -> Episode:
        class_key, image_key = jax.random.split(key)
        classes = self.images.shape[0]
        chosen = _sample(class_key, jnp.ones(classes * self.rotations), self.ways)
        characters, turns = chosen % classes, chosen // classes
        stored = (
            jnp.arange(self.images.shape[1])[None] < self.counts[characters][:, None]
        )
        drawn = jax.vmap(_sample, (0, 0, None))(
            jax.random.split(image_key, self.ways),
            stored.astype(jnp.float32),
            self.shots + self.queries,
        )
        images = self.images[characters[:, None], drawn]
        if self.rotations > 1:
            images = jax.vmap(rotate)(images, turns)
        return split_by_class(images.astype(jnp.float32) / 255.0, self.shots)


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
    for name, value in dict(ways=ways, shots=shots, queries=queries).items():
        check_count(name, value, least=1)
    check_store(store, rotations)
    classes = len(store.images)
    if ways > classes * rotations:
        raise InputError(
            f"ways must be at most the number of classes, {classes * rotations}, "
            f"got {ways}"
        )
    fewest = int(np.min(store.counts))
    if shots + queries > fewest:
        name = store.names[int(np.argmin(store.counts))]
        raise InputError(
            f"shots + queries must be at most the images a class, {fewest} (of "
            f"{name}), got {shots} + {queries} = {shots + queries}"
        )
    images, counts = jnp.asarray(store.images), jnp.asarray(store.counts, jnp.int32)
    return Images(images, counts, ways, shots, queries, rotations)


def check_store(store: ImageStore, rotations: int) -> None:
    """Checks the shapes of a store, and that its images can be turned so often.

    Raises:
      InputError: if they are not as `ImageStore` has them, or cannot.
    """
    if check_count("rotations", rotations, least=1) not in ROTATIONS:
        raise InputError(f"rotations must be 1 or 4, got {rotations!r}")
    images, counts, names = store
    images, counts = np.asarray(images), np.asarray(counts)
    if images.ndim != 5 or images.dtype != np.uint8 or not images.size:
        raise InputError(
            "images must be uint8[classes, per_class, height, width, channels], none "
            f"of them 0, got {images.dtype}{list(images.shape)}"
        )
    classes, per_class = images.shape[:2]
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
    height, width = images.shape[2:4]
    if rotations > 1 and height != width:
        raise InputError(
            f"rotations need square images, got {height}x{width}; use rotations=1"
        )


def split_by_class(images: Array, shots: int) -> Episode:
    """Splits images `[ways, shots + queries, ...]` into support and query."""

    def batch(images: Array) -> Batch:
        ways, n = images.shape[:2]
        labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), n)
        return Batch(images.reshape(ways * n, *images.shape[2:]), labels)

    return Episode(batch(images[:, :shots]), batch(images[:, shots:]))


def _sample(key: Array, allowed: Array, n: int) -> Array:
    """Draws `n` distinct indices of those where `allowed` is 1 (0 elsewhere)."""
    # The order of uniform numbers is a random order; top_k beats a permutation.
    return jax.lax.top_k(jax.random.uniform(key, allowed.shape) - (1.0 - allowed), n)[1]


def rotate(images: Array, turns: Array) -> Array:
    """Turns `[n, size, size, channels]` by `turns` times 90 degrees, as `np.rot90`."""
    images = jnp.where(turns % 2 == 1, jnp.swapaxes(images, 1, 2), images)
    images = jnp.where((turns == 1) | (turns == 2), jnp.flip(images, 1), images)
    return jnp.where(turns >= 2, jnp.flip(images, 2), images)
