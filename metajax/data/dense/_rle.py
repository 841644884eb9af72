"""Run-length encoded masks, as COCO has them."""

from typing import Any

import numpy as np

LONGEST = 12  # characters of a number: 60 bits


def decode_runs(outline: Any) -> np.ndarray:
    """Decodes the runs of a mask.

    Pixels are counted down the columns: a run outside of the object, one inside, ...

    Args:
      outline: `{"size": [height, width], "counts": ...}`, whose counts are a list of
        whole numbers, or the text that pycocotools compresses them to.

    Returns:
      `bool[height, width]`.

    Raises:
      ValueError: if the counts are damaged, or not of so many pixels.

    >>> decode_runs({"size": [2, 3], "counts": [1, 3, 2]}).astype(int).tolist()
    [[0, 1, 0], [1, 1, 0]]
    >>> decode_runs({"size": [2, 3], "counts": "132"}).astype(int).tolist()
    [[0, 1, 0], [1, 1, 0]]
    """
    height, width = outline["size"]
    counts = outline["counts"]
    runs = _decompress(counts) if isinstance(counts, str) else _whole(counts)
    if (runs < 0).any() or (runs > height * width).any():
        raise ValueError("its counts are negative, or too large for its size")
    if (total := int(runs.sum())) != height * width:
        raise ValueError(f"its counts are of {total} pixels, not {height * width}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _whole(counts: Any) -> np.ndarray:
    runs = np.array(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise ValueError("its counts are no list of whole numbers")
    return runs.astype(np.int64)


def _decompress(text: str) -> np.ndarray:
    """The counts of a compressed text.

    A character holds 5 bits of a number, the lowest first, and whether more follow; the
    last one's highest bit is the sign. From the fourth on, a number is the difference
    from the last but one.
    """
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("its counts are no compressed text")
    last = np.flatnonzero(~codes & 32)  # characters of each number
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > LONGEST:
        raise ValueError("its counts are no compressed text")
    place = np.arange(codes.size) - np.repeat(first, lengths)
    numbers = np.add.reduceat((codes & 31) << 5 * place, first)
    numbers -= np.where(codes[last] & 16, 1 << 5 * lengths, 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
