"""Dense episodes of images that stay on the host and are read as they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from metajax._pytrees.weakly import register_weakly
from metajax.checks import check_count
from metajax.data.dense.drawing import (
    DenseShape,
    DenseShown,
    Members,
    draw_dense_batch,
)
from metajax.data.dense.episodes import (
    LABELLERS,
    Labeller,
    as_dense_episode,
    members_of,
)
from metajax.data.dense.store import DenseStore, Targets
from metajax.data.reading import host_device
from metajax.data.records import RowReader
from metajax.data.sampling import FREED, Fetching, StagedSampler
from metajax.data.streaming import THREADS
from metajax.types import Array, Episode, PyTree


@register_weakly("readers", freed=FREED)
@dataclass(frozen=True, eq=False)
class DenseStream(StagedSampler):
    """The sampler that `stream_dense_episodes` makes, called as (key, tasks).

    Attributes:
      members: the images with each class, on the device.
      readers: where the images and the masks or boxes are, a `RowReader` an array.
      shape: of an episode.
      label: makes the episode's targets.
      workers: processes that read for `metajax.fit`; 0 for threads.
    """

    members: Members
    readers: Any
    shape: DenseShape = field(metadata={"static": True})
    label: Labeller = field(metadata={"static": True})
    workers: int = field(metadata={"static": True})

    @property
    def fetching(self) -> Fetching:
        """By several threads at once, in this process or in others."""
        return Fetching(THREADS, self.workers)

    def draw(self, key: Array, tasks: int) -> DenseShown:
        """Draws which images each of `tasks` episodes shows."""
        return draw_dense_batch(key, tasks, self.members, self.shape)

    def fetch(self, drawn: Any) -> tuple[np.ndarray, PyTree]:
        """Reads the images and targets of a `DenseShown`, and passes on its classes."""
        read = jax.tree.map(lambda reader: reader(drawn.images), self.readers)
        return drawn.classes, read

    def make_task(self, fetched: tuple[Array, PyTree]) -> Episode:
        """Makes an episode as `metajax.data.DenseImages` does."""
        classes, (images, targets) = fetched
        return as_dense_episode(classes, images, targets, self.shape, self.label)

    def fetched_like(self, tasks: int) -> tuple[Any, PyTree]:
        """What is read for `tasks` episodes, abstract."""
        shape = self.shape
        rows = tasks, shape.ways * (shape.shots + shape.queries)

        def like(reader: RowReader) -> jax.ShapeDtypeStruct:
            array = reader.images
            return jax.ShapeDtypeStruct((*rows, *array.shape[1:]), array.dtype)

        classes = jax.ShapeDtypeStruct((tasks, shape.ways), np.int32)
        return classes, jax.tree.map(like, self.readers)


def stream_dense_episodes(
    store: DenseStore,
    ways: int,
    shots: int,
    queries: int,
    *,
    targets: Targets = "masks",
    classes: Sequence[str] | None = None,
    workers: int = 0,
) -> DenseStream:
    """Episodes of segmentation or detection of images that need not fit in memory.

    For the same key, the episodes of `dense_episodes`. Only the images that are drawn
    are read; `metajax.fit` reads ahead, while the device is busy.

    Args:
      store: the images, in files (`mask_folder(..., mapped=True)`,
        `coco_folder(..., mapped=True)`, any `np.memmap`), or in memory.
      ways: see `dense_episodes`.
      shots: see there.
      queries: see there.
      targets: see there.
      classes: see there.
      workers: see `stream_episodes`.

    Returns:
      A sampler. Inside a jitted function of yours it reads as the program runs, by a
      callback.

    Raises:
      InputError: as `dense_episodes`, or if `workers` is below 0, or JAX has no CPU
        beside the accelerator.

    >>> masks = np.ones((4, 8, 8), np.uint8)
    >>> store = DenseStore(np.zeros((4, 8, 8, 3), np.uint8), masks, None, ("cat",))
    >>> episodes = stream_dense_episodes(store, ways=1, shots=1, queries=2)
    >>> episodes(jax.random.key(0), 4).query.inputs.shape
    (4, 2, 8, 8, 3)
    """
    members, shape = members_of(store, ways, shots, queries, targets, classes)
    check_count("workers", workers, least=0)
    host_device()
    arrays = store.images, getattr(store, targets)
    readers = jax.tree.map(RowReader, arrays)
    return DenseStream(members, readers, shape, LABELLERS[targets], workers)
