"""Images on the host that are read where and when they are asked for."""

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

_opening = threading.Lock()  # several threads read


class Records:
    """Images of a data source, a record a class, as an array that is not in memory.

    Args:
      opened: `opened() -> source`, called once in each process that reads; the source
        is indexed by class, each record a mapping. If worker processes are to read, it
        can be pickled.
      field: the entry of a record that holds the images of a class,
        `uint8[per_class, height, width, channels]`.
      shape: `(classes, per_class, height, width, channels)`.

    >>> source = [{"images": np.full((20, 28, 28, 1), c, np.uint8)} for c in range(5)]
    >>> records = Records(lambda: source, "images", (5, 20, 28, 28, 1))
    >>> records[np.array([[4]]), np.array([[0, 19]])].shape
    (1, 2, 28, 28, 1)
    """

    dtype = np.dtype(np.uint8)
    ndim = 5

    def __init__(
        self, opened: Callable[[], Sequence[Any]], field: str, shape: tuple[int, ...]
    ):
        self.opened, self.field, self.shape = opened, field, shape

    @property
    def source(self) -> Sequence[Any]:
        """The data source of this process."""
        with _opening:
            return self._source

    @cached_property
    def _source(self) -> Sequence[Any]:
        return self.opened()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The images at (classes, places in them), which broadcast as in an array."""
        classes, images = np.broadcast_arrays(*places)
        read, row = np.unique(classes, return_inverse=True)
        stacked = np.stack([self.source[int(c)][self.field] for c in read])
        return stacked[row.reshape(classes.shape), images]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them, read into memory."""
        every = np.arange(self.shape[0])[:, None], np.arange(self.shape[1])[None]
        return self[every]

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens the source for itself.
        return {k: v for k, v in self.__dict__.items() if k != "_source"}


class _Reader:
    """Gathers entries of an array, in this process or in another.

    It is a function of NumPy arrays alone, for callbacks and for worker processes.
    """

    def __init__(self, images: Any):
        self.images = images

    def __getstate__(self) -> tuple[Any, ...]:
        images = self.images
        if isinstance(images, np.memmap) and not isinstance(images.base, np.ndarray):
            # A whole file is mapped again; a part of one is sent as the array it is.
            order = "F" if np.isfortran(images) else "C"
            return images.filename, images.dtype, images.offset, images.shape, order
        return (images,)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) == 1:
            (self.images,) = state
        else:
            name, dtype, offset, shape, order = state
            self.images = np.memmap(name, dtype, "r", offset, shape, order)


class ImageReader(_Reader):
    """Gathers images by class and place.

    Args:
      images: `uint8[classes, per_class, height, width, channels]`, an array, a
        `np.memmap` or `Records`.
    """

    def __call__(self, classes: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Images of classes `[..., ways]`, at `[..., ways, n]` in them."""
        classes, images = np.asarray(classes), np.asarray(images)
        return np.asarray(self.images[classes[..., None], images])


class RowReader(_Reader):
    """Gathers rows of an array.

    Args:
      images: `[rows, ...]`, an array or a `np.memmap`.
    """

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """The rows of any shape of numbers."""
        return np.asarray(self.images[np.asarray(rows)])
