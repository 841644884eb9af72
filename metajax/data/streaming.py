"""Episodes of images that stay on the host and are read as they are drawn."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.data.drawing import Shape, draw_batch
from metajax.data.images import ImageStore, as_episode, shape_of
from metajax.data.records import Shelf
from metajax.data.sampling import InTwoParts
from metajax.errors import InputError
from metajax.types import Array, Episode


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Stream(InTwoParts):
    """The sampler that `stream_episodes` makes: `episodes(key, tasks) -> Episode`.

    Attributes:
      counts: `int32[classes]`, on the device.
      shelf: where the images are.
      shape: of an episode.
      image: of an image.
      workers: processes that read for `metajax.fit`; 0 for threads.
    """

    counts: Array
    shelf: Shelf = field(metadata={"static": True})
    shape: Shape = field(metadata={"static": True})
    image: tuple[int, ...] = field(metadata={"static": True})
    workers: int = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> tuple[Array, Array]:
        """Reads the images of `tasks` episodes, and says by how much each is turned."""
        drawn = draw_batch(key, tasks, self.counts, self.shape)
        # Integers go out and bytes come back: arguments so small that the runtime need
        # not wait for a thread to copy them, which a program on a CPU may all hold.
        images = jax.pure_callback(
            self.shelf,
            self.like(tasks).images,
            drawn.classes,
            drawn.images,
            vmap_method="broadcast_all",
        )
        return images, drawn.turns

    def make(self, drawn: tuple[Array, Array]) -> Episode:
        """The episodes, as `metajax.data.Images` makes them."""
        return _episodes(drawn, self.shape)

    def like(self, tasks: int) -> "Given":
        """What is read for `tasks` episodes, abstract."""
        each = tasks, self.shape.ways
        images = (*each, self.shape.shots + self.shape.queries, *self.image)
        return Given(
            jax.ShapeDtypeStruct(images, jnp.uint8),
            jax.ShapeDtypeStruct(each, jnp.int32),
            self.shape,
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Given(InTwoParts):
    """A meta-batch that was read, as a sampler: whatever the key, these episodes.

    Attributes:
      images: `uint8[tasks, ways, shots + queries, height, width, channels]`.
      turns: `int32[tasks, ways]`.
      shape: of an episode.
    """

    images: Any
    turns: Any
    shape: Shape = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> tuple[Array, Array]:
        """All of it."""
        return self.images, self.turns

    def make(self, drawn: tuple[Array, Array]) -> Episode:
        """The episodes."""
        return _episodes(drawn, self.shape)


def _episodes(read: tuple[Array, Array], shape: Shape) -> Episode:
    images, turns = read
    return jax.vmap(as_episode, (0, 0, None))(images, turns, shape)


def stream_episodes(
    store: ImageStore,
    ways: int,
    shots: int,
    queries: int,
    *,
    rotations: int = 1,
    workers: int = 0,
) -> Stream:
    """Few-shot classification episodes of images that need not fit in memory.

    For the same key, the episodes of `image_episodes`. Only those that are drawn are
    read, and put on the device as bytes; `metajax.fit` reads ahead, while the device is
    busy.

    Args:
      store: the images, in a file (`image_folder(..., mapped=True)`,
        `omniglot(..., mapped=True)`, any `np.memmap`), or in memory.
      ways: see `image_episodes`.
      shots: see there.
      queries: see there.
      rotations: see there.
      workers: processes that read ahead for `fit`, for images that take long to decode;
        by default threads do. They are started by importing the main module again:
        what it does must be under `if __name__ == "__main__":`.

    Returns:
      A sampler. Inside a jitted function of yours it reads as the program runs, by a
      callback.

    Raises:
      InputError: as `image_episodes`, or if `workers` is below 0, or JAX has no CPU
        beside the accelerator.

    >>> import numpy as np
    >>> store = ImageStore(
    ...     np.zeros((6, 20, 28, 28, 1), np.uint8), np.full(6, 20), tuple("abcdef")
    ... )
    >>> episodes = stream_episodes(store, ways=5, shots=1, queries=15)
    >>> episodes(jax.random.key(0), 4).query.inputs.shape
    (4, 75, 28, 28, 1)
    """
    shape = shape_of(store, ways, shots, queries, rotations=rotations)
    check_count("workers", workers, least=0)
    host_device()
    counts = jnp.asarray(store.counts, jnp.int32)
    image = tuple(store.images.shape[2:])
    return Stream(counts, Shelf(store.images), shape, image, workers)


def host_device() -> Any:
    """The CPU as a device of JAX.

    Raises:
      InputError: if JAX was told to leave it out.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise InputError(
            "streaming draws on the CPU, which JAX was told to leave out; name it too, "
            "as in JAX_PLATFORMS=cuda,cpu"
        ) from error
