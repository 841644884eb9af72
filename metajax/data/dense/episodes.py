"""Episodes of segmentation and of detection, from a store of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from metajax.checks import check_one_of
from metajax.data.dense._labels import label_boxes, label_masks
from metajax.data.dense.drawing import (
    DenseShape,
    Members,
    draw_dense,
    list_members,
)
from metajax.data.dense.enough import check_dense_enough, choose_classes
from metajax.data.dense.store import DenseStore, Targets, find_classes
from metajax.data.sampling import StagedSampler
from metajax.types import Array, Batch, Episode, PyTree

Labeller = Callable[[Array, Any, int], tuple[PyTree, PyTree]]
LABELLERS: dict[str, Labeller] = {"masks": label_masks, "boxes": label_boxes}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class DenseImages(StagedSampler):
    """The sampler that `dense_episodes` makes: `episodes(key, tasks) -> Episode`.

    Attributes:
      images: `uint8[images, height, width, channels]`, on the device.
      targets: masks or boxes of the images.
      members: the images with each class.
      shape: of an episode.
      label: makes the episode's targets.
    """

    images: Array
    targets: PyTree
    members: Members
    shape: DenseShape = field(metadata={"static": True})
    label: Labeller = field(metadata={"static": True})

    def make_task(self, key: Array) -> Episode:
        """Makes an episode of a key."""
        classes, rows = draw_dense(key, self.members, self.shape)
        images, targets = jax.tree.map(lambda x: x[rows], (self.images, self.targets))
        return as_dense_episode(classes, images, targets, self.shape, self.label)


def dense_episodes(
    store: DenseStore,
    ways: int,
    shots: int,
    queries: int,
    *,
    targets: Targets = "masks",
    classes: Sequence[str] | None = None,
) -> DenseImages:
    """Few-shot segmentation or detection episodes from a store of images.

    Each episode draws `ways` distinct classes, and of each `shots` support images that
    contain it, then `queries` query images, which are no support images of the
    episode. Images are grouped by class.

    Masks hold 0 for the background, k for class k of the episode (1 to `ways`), and 255
    for ignored pixels; other classes are background. A support image of class k shows
    k alone: pixels of the episode's other classes are ignored, as in PANet.

    Boxes are labelled 0 to `ways - 1`; those of other classes are absent. A support
    image of class k has one box, the largest of that class (of equal ones the first),
    so that there are just `shots` boxes a class.

    Args:
      store: the images (`mask_folder`, `coco_folder`, or your own); they are put on the
        default device once.
      ways: classes an episode.
      shots: support images a class.
      queries: query images a class.
      targets: "masks" for segmentation, "boxes" for detection.
      classes: the names of those to draw from, such as the test classes; all if None.

    Returns:
      A sampler. Inputs are `float32[tasks, ways * n, height, width, channels]` in
      [0, 1], with n = `shots` or `queries`; targets `int32[tasks, ways * n, height,
      width]`, or `Boxes` `[tasks, ways * n, objects]`, one object in support sets.

    Raises:
      InputError: if the store has no such targets or they are not as `DenseStore` has
        them, if there are fewer classes than `ways`, or too few images of a class.

    >>> import numpy as np
    >>> images, masks = np.zeros((2, 12, 8, 8), np.uint8)
    >>> masks[:, 2:5, 2:5] = np.arange(1, 13)[:, None, None] % 3 + 1  # 4 a class
    >>> store = DenseStore(images[..., None], masks, None, ("cat", "dog", "owl"))
    >>> episodes = dense_episodes(store, ways=2, shots=1, queries=2)
    >>> episode = episodes(jax.random.key(0), 4)
    >>> episode.query.inputs.shape, episode.query.targets.shape
    ((4, 4, 8, 8, 1), (4, 4, 8, 8))
    >>> episode.support.targets[0, :, 3, 3].tolist()
    [1, 2]

    Source: Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype
    Alignment", ICCV 2019.
    """
    members, shape = members_of(store, ways, shots, queries, targets, classes)
    labels = jax.tree.map(jnp.asarray, getattr(store, targets))
    return DenseImages(
        jnp.asarray(store.images), labels, members, shape, LABELLERS[targets]
    )


def members_of(
    store: DenseStore,
    ways: int,
    shots: int,
    queries: int,
    targets: Targets,
    classes: Sequence[str] | None,
) -> tuple[Members, DenseShape]:
    """The images with each class, and the shape of episodes; see `dense_episodes`.

    Raises:
      InputError: see there.
    """
    check_one_of("targets", targets, tuple(LABELLERS))
    contains = find_classes(store, targets)
    chosen = choose_classes(store.names, classes)
    shape = DenseShape(ways, shots, queries, len(store.images))
    names = [store.names[i] for i in chosen]
    check_dense_enough(shape, contains[chosen], names)
    return list_members(contains[chosen], chosen), shape


def as_dense_episode(
    classes: Array, images: Array, targets: PyTree, shape: DenseShape, label: Labeller
) -> Episode:
    """ONE episode of the rows of a store that were drawn, the support set first."""
    inputs = images.astype(jnp.float32) / 255.0
    split = shape.ways * shape.shots
    support, query = label(classes, targets, shape.shots)
    return Episode(Batch(inputs[:split], support), Batch(inputs[split:], query))
