"""Images with a mask or boxes each."""

from typing import Literal, NamedTuple

import numpy as np

from metajax.detection import Boxes
from metajax.errors import InputError
from metajax.losses import UNLABELLED

Targets = Literal["masks", "boxes"]
MOST_CLASSES = 254  # of masks


class DenseStore(NamedTuple):
    """Images with masks, boxes or both.

    Attributes:
      images: `uint8[images, height, width, channels]`, an array or a `np.memmap`.
      masks: 0 where the background is, k + 1 where class k is, and 255 where the label
        is unknown, `uint8[images, height, width]`; None if there are none.
      boxes: the objects of each image, whose label is the class, `[images, objects]`,
        as NumPy arrays; None if there are none.
      names: the name of each class.
      bits: the depth that images of 16 bits a pixel were read at; None if none is.
    """

    images: np.ndarray
    masks: np.ndarray | None
    boxes: Boxes | None
    names: tuple[str, ...]
    bits: int | None = None


def find_classes(store: DenseStore, targets: Targets) -> np.ndarray:
    """Which images contain which class, `bool[classes, images]`.

    Args:
      store: the images.
      targets: whether masks or boxes say what an image contains.

    Raises:
      InputError: if the store is not as `DenseStore` has it.
    """
    images = store.images
    shape = getattr(images, "shape", ())
    if len(shape) != 4 or images.dtype != np.uint8 or 0 in shape:
        kind = getattr(images, "dtype", type(images).__name__)
        raise InputError(
            "images must be uint8[images, height, width, channels], none of them 0, "
            f"got {kind}{list(shape)}"
        )
    labels = getattr(store, targets)
    if labels is None:
        other = "boxes" if targets == "masks" else "masks"
        raise InputError(
            f'the store has no {targets}; use targets="{other}", or a folder with '
            f"{targets}"
        )
    find = {"masks": _in_masks, "boxes": _in_boxes}[targets]
    return find(labels, shape, len(store.names))


def _in_masks(masks: np.ndarray, shape: tuple[int, ...], classes: int) -> np.ndarray:
    if masks.shape != shape[:3] or masks.dtype != np.uint8:
        raise InputError(
            f"masks must be uint8{list(shape[:3])}, one for each image and of its "
            f"size, got {masks.dtype}{list(masks.shape)}"
        )
    holds = np.zeros((len(masks), 256), bool)
    for row, mask in zip(holds, masks):
        row[mask] = True
    if (unknown := holds[:, classes + 1 : UNLABELLED]).any():
        image, value = np.argwhere(unknown)[0]
        raise InputError(
            f"masks must hold 0 to {classes}, as there are {classes} classes, or "
            f"{UNLABELLED}, got {value + classes + 1} in that of image {image}"
        )
    return holds[:, 1 : classes + 1].T


def _in_boxes(boxes: Boxes, shape: tuple[int, ...], classes: int) -> np.ndarray:
    corners, labels, present = map(np.asarray, boxes)
    images, height, width, _ = shape
    rows = labels.shape
    if len(rows) != 2 or (corners.shape, present.shape) != ((*rows, 4), rows):
        raise InputError(
            "boxes must have corners [images, objects, 4], and labels and present "
            f"[images, objects], got {corners.shape}, {labels.shape}, {present.shape}"
        )
    if rows[0] != images:
        raise InputError(f"boxes must be of {images} images, got {rows[0]}")
    outside = ~((corners[..., :2] >= 0) & (corners[..., 2:] <= [width, height])).all(-1)
    bad = present & (outside | ~(corners[..., 2:] > corners[..., :2]).all(-1))
    if bad.any():
        image, place = np.argwhere(bad)[0]
        left, top, right, bottom = corners[image, place]
        raise InputError(
            f"boxes must lie inside of the {width}x{height} images, and not be empty, "
            f"got x={left:g}, y={top:g}, w={right - left:g}, h={bottom - top:g} in "
            f"image {image}"
        )
    known = (labels >= 0) & (labels < classes)
    if (present & ~known).any():
        wrong = labels[present & ~known][0]
        raise InputError(f"labels of boxes must be 0 to {classes - 1}, got {wrong}")
    contains = np.zeros((classes, images), bool)
    image, place = np.nonzero(present)
    contains[labels[image, place], image] = True
    return contains
