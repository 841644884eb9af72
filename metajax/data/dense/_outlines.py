"""Outlines of objects, as COCO has them, painted into masks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from metajax.data.dense._rle import decode_runs


def fill(outline: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels of an object.

    Args:
      outline: polygons, each `[x, y, x, y, ...]`, of which it is the union; or runs,
        see `metajax.data.dense._rle`.
      size: (height, width) of the image.

    Returns:
      `bool[height, width]`.

    Raises:
      ValueError: if runs are damaged, or of another size.
    """
    if isinstance(outline, list):
        inside = np.zeros(size, bool)
        for polygon in outline:
            inside |= fill_polygon(np.reshape(polygon, (-1, 2)).astype(float), size)
        return inside
    if tuple(outline["size"]) != tuple(size):
        have, want = (f"{w}x{h}" for h, w in (outline["size"], size))
        raise ValueError(f"it is of {have} pixels, and the image has {want}")
    return decode_runs(outline)


def fill_polygon(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a polygon, by the even-odd rule.

    Args:
      corners: (x, y) in pixels from the upper left corner of the image, `float[n, 2]`;
        edges of pixels are whole numbers.
      size: (height, width) of the image.

    Returns:
      `bool[height, width]`.

    >>> square = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0]])
    >>> fill_polygon(square, (3, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    height, width = size
    ends = np.roll(corners, -1, axis=0)
    centres = np.arange(height)[:, None] + 0.5
    row, edge = np.nonzero((corners[:, 1] <= centres) != (ends[:, 1] <= centres))
    start, (run, rise) = corners[edge], (ends - corners)[edge].T
    x = start[:, 0] + (row + 0.5 - start[:, 1]) * run / rise
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    crossings = np.zeros((height, width + 1), np.int32)
    np.add.at(crossings, (row, column), 1)
    return np.cumsum(crossings[:, :-1], axis=1) % 2 == 1


def paint(
    size: tuple[int, int],
    unknown: Sequence[np.ndarray],
    objects: Sequence[tuple[int, np.ndarray]],
    ignored: int,
) -> np.ndarray:
    """Paints objects into a mask, the larger ones first, so that small ones stay seen.

    Args:
      size: (height, width) of the mask.
      unknown: pixels that are ignored where no object is.
      objects: the value of each, and its pixels.
      ignored: the value of ignored pixels.

    Returns:
      `uint8[height, width]`.
    """
    mask = np.zeros(size, np.uint8)
    for pixels in unknown:
        mask[pixels] = ignored
    for value, pixels in sorted(objects, key=lambda each: -np.sum(each[1])):
        mask[pixels] = value
    return mask
