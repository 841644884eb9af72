"""The masks and the boxes of a store, labelled with the classes of an episode."""

import jax
import jax.numpy as jnp

from metajax.detection import Boxes
from metajax.detection.boxes import areas
from metajax.losses import UNLABELLED
from metajax.types import Array


def label_masks(classes: Array, masks: Array, shots: int) -> tuple[Array, Array]:
    """Labels masks with the classes of ONE episode; see `dense_episodes`.

    Args:
      classes: numbers of its classes in the store, `int32[ways]`.
      masks: the support images' by class, then the query images',
        `uint8[images, height, width]`.
      shots: support images a class.

    Returns:
      The masks of the support set and of the query set, `int32[..., height, width]`.

    >>> masks = jnp.array([[[0, 5, 2]], [[9, 5, 2]], [[9, 5, 255]]], jnp.uint8)
    >>> support, query = label_masks(jnp.array([4, 1]), masks, 1)
    >>> support.tolist(), query.tolist()
    ([[[0, 1, 255]], [[0, 255, 2]]], [[[0, 1, 255]]])
    """
    labels = 1 + jnp.arange(len(classes), dtype=jnp.int32)
    table = jnp.zeros(256, jnp.int32).at[UNLABELLED].set(UNLABELLED)
    labelled = table.at[classes + 1].set(labels)[masks.astype(jnp.int32)]
    own = jnp.repeat(labels, shots)[:, None, None]
    support, query = labelled[: len(own)], labelled[len(own) :]
    return jnp.where((support == 0) | (support == own), support, UNLABELLED), query


def label_boxes(classes: Array, boxes: Boxes, shots: int) -> tuple[Boxes, Boxes]:
    """Labels boxes with the classes of ONE episode; see `dense_episodes`.

    Args:
      classes: numbers of its classes in the store, `int32[ways]`.
      boxes: the support images' by class, then the query images', `[images, objects]`.
      shots: support images a class.

    Returns:
      The `Boxes` of the support set, `[ways * shots, 1]`, and of the query set.
    """
    same = boxes.labels[..., None] == classes[None, None]
    kept = boxes.present & same.any(-1)
    labels = jnp.where(kept, jnp.argmax(same, -1).astype(jnp.int32), 0)
    corners = jnp.where(kept[..., None], boxes.corners, 0.0)
    labelled = Boxes(corners, labels, kept)
    own = jnp.repeat(jnp.arange(len(classes), dtype=jnp.int32), shots)[:, None]
    support = jax.tree.map(lambda x: x[: len(own)], labelled)
    query = jax.tree.map(lambda x: x[len(own) :], labelled)
    mine = support.present & (support.labels == own)
    largest = jnp.argmax(jnp.where(mine, areas(support.corners), -1.0), -1)
    one = jnp.take_along_axis(support.corners, largest[:, None, None], 1)
    present = jnp.take_along_axis(mine, largest[:, None], 1)
    return Boxes(one, own, present), query
