"""Image files of no class, decoded ahead of what computes with them."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from metajax.checks import check_count
from metajax.data.pictures.decoding import Mode, Pixels, decode
from metajax.data.pictures.fitting import STRETCHED, Fit
from metajax.errors import FilesError

AHEAD = 4  # batches
T = TypeVar("T")


class Unreadable(NamedTuple):
    """A file that could not be read, and why."""

    file: str
    reason: str


class Decoded(NamedTuple):
    """A batch of images.

    Attributes:
      files: their paths below the folder, at most as many as there are images.
      images: `uint8[size, height, width, channels]`; what follows the files' is zeros.
    """

    files: tuple[str, ...]
    images: np.ndarray


def decode_ahead(
    folder: Path,
    files: Sequence[str],
    image_size: tuple[int, int],
    mode: Mode,
    *,
    batch: int,
    refuse: Callable[[Unreadable], None],
    bits: int | None = None,
    fit: Fit = STRETCHED,
) -> Iterator[Decoded]:
    """Decodes files in threads, in order, in batches of one shape.

    No more than a few batches are in memory. A file that cannot be read is passed to
    `refuse`, and the next one takes its place.

    Args:
      folder: where the files are.
      files: their paths below it.
      image_size: (height, width) of the result.
      mode: "RGB" or "L", see `metajax.data.pictures.decoding`.
      batch: images a batch; the last may be padded.
      refuse: takes what could not be read, in order.
      bits: see `metajax.data.pictures.decoding.decode`.
      fit: see there.

    Yields:
      `Decoded` batches of at least one image.

    >>> import tempfile
    >>> from PIL import Image
    >>> folder, bad = Path(tempfile.mkdtemp()), []
    >>> for name in ("a.png", "c.png"):
    ...     Image.new("L", (9, 9)).save(folder / name)
    >>> batches = decode_ahead(
    ...     folder, ["a.png", "b.png", "c.png"], (4, 4), "L", batch=4, refuse=bad.append
    ... )
    >>> [(part.files, part.images.shape) for part in batches]
    [(('a.png', 'c.png'), (4, 4, 4, 1))]
    >>> bad[0].file, bad[0].reason
    ('b.png', 'cannot be read as an image (it is not a file)')
    """
    check_count("batch", batch, least=1)
    pixels = Pixels(image_size, mode, bits, fit)
    read = partial(_read, folder, pixels=pixels)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = in_order(threads, read, files, AHEAD * batch)
        names: list[str] = []
        images = _blank(batch, image_size, mode)
        for name, image in results:
            if isinstance(image, Unreadable):
                refuse(image)
                continue
            images[len(names)] = image
            names.append(name)
            if len(names) == batch:
                yield Decoded(tuple(names), images)
                names, images = [], _blank(batch, image_size, mode)
        if names:
            yield Decoded(tuple(names), images)


def _blank(batch: int, size: tuple[int, int], mode: Mode) -> np.ndarray:
    return np.zeros((batch, *size, len(mode)), np.uint8)


def _read(
    folder: Path, file: str, *, pixels: Pixels
) -> tuple[str, np.ndarray | Unreadable]:
    try:
        return file, decode(folder / file, *pixels)
    except FilesError as error:
        return file, unreadable(folder, file, error)


def unreadable(folder: Path, file: str, error: FilesError) -> Unreadable:
    """Why a file below a folder could not be read."""
    reason = error.faults[0].reason
    return Unreadable(file, reason.replace(str(folder / file), file))


def in_order(
    threads: ThreadPoolExecutor,
    read: Callable[[str], T],
    files: Sequence[str],
    ahead: int,
) -> Iterator[T]:
    """What `read` returns for each file, in order, with `ahead` files begun.

    >>> with ThreadPoolExecutor(2) as threads:
    ...     list(in_order(threads, str.upper, ["a", "b", "c"], 2))
    ['A', 'B', 'C']
    """
    rest = iter(files)
    begun: deque[Future] = deque(threads.submit(read, f) for f in islice(rest, ahead))
    try:
        while begun:
            done = begun.popleft().result()
            begun.extend(threads.submit(read, f) for f in islice(rest, 1))
            yield done
    finally:
        for future in begun:
            future.cancel()
