"""Episodes of images that stay on the host and are read as they are drawn."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax._pytrees.weakly import register_weakly
from metajax.checks import check_count
from metajax.data.drawing import Shape, Shown, draw_batch
from metajax.data.images import ImageStore, as_episode, shape_of
from metajax.data.reading import host_device
from metajax.data.records import ImageReader
from metajax.data.sampling import FREED, Fetching, StagedSampler
from metajax.types import Array, Episode

THREADS = 4  # that read at once


@register_weakly("reader", freed=FREED)
@dataclass(frozen=True, eq=False)
class Stream(StagedSampler):
    """The sampler that `stream_episodes` makes: `episodes(key, tasks) -> Episode`.

    Attributes:
      counts: `int32[classes]`, on the device.
      reader: where the images are.
      shape: of an episode.
      image: of an image.
      workers: processes that read for `metajax.fit`; 0 for threads.
    """

    counts: Array
    reader: ImageReader
    shape: Shape = field(metadata={"static": True})
    image: tuple[int, ...] = field(metadata={"static": True})
    workers: int = field(metadata={"static": True})

    @property
    def fetching(self) -> Fetching:
        """By several threads at once, in this process or in others."""
        return Fetching(THREADS, self.workers)

    def draw(self, key: Array, tasks: int) -> Shown:
        """Draws which images each of `tasks` episodes shows."""
        return draw_batch(key, tasks, self.counts, self.shape)

    def fetch(self, drawn: Any) -> tuple[np.ndarray, np.ndarray]:
        """Reads the images of a `Shown`, and passes on its turns."""
        return self.reader(drawn.classes, drawn.images), drawn.turns

    def make_task(self, fetched: tuple[Array, Array]) -> Episode:
        """Makes an episode as `metajax.data.Images` does."""
        images, turns = fetched
        return as_episode(images, turns, self.shape)

    def fetched_like(self, tasks: int) -> tuple[Any, Any]:
        """What is read for `tasks` episodes, abstract."""
        each = tasks, self.shape.ways
        images = (*each, self.shape.shots + self.shape.queries, *self.image)
        return (
            jax.ShapeDtypeStruct(images, jnp.uint8),
            jax.ShapeDtypeStruct(each, jnp.int32),
        )


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
    return Stream(counts, ImageReader(store.images), shape, image, workers)
