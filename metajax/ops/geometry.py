"""The shapes of a convolution, and what decides its form."""

import math
from typing import NamedTuple

from jax import lax

# With fewer entries than this in a row of a patch, a product takes whole patches.
SHALLOW = 32
# Winograd's tiles pay for their transformations from this many rows, columns, channels
# and features on.
LARGE, DEEP = 10, 16
Precision = lax.PrecisionLike
# Those at which float32 factors keep their bits.
EXACT = ("highest", "float32", lax.Precision.HIGHEST)


class Geometry(NamedTuple):
    """A convolution's shapes, hashable."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[tuple[int, int], tuple[int, int]]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    precision: Precision

    @property
    def window(self) -> tuple[int, int]:
        """What the kernel spans of an image."""
        rows, columns = (
            d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel[:2])
        )
        return rows, columns

    @property
    def rows(self) -> int:
        """Of the result."""
        return self._size(0)

    @property
    def columns(self) -> int:
        """Of the result."""
        return self._size(1)

    @property
    def dense(self) -> bool:
        """Whether its stride is 1."""
        return self.stride == (1, 1)

    @property
    def shallow(self) -> bool:
        """Whether a row of a patch has few entries."""
        return math.prod(self.kernel[1:3]) < SHALLOW

    @property
    def tiled(self) -> bool:
        """Whether Winograd's tiles fit and pay, both ways."""
        return (
            self.kernel[:2] == (3, 3)
            and self.stride == self.dilation == (1, 1)
            and min(self.kernel[2:]) >= DEEP
            and min(self.rows, self.columns) >= LARGE
        )

    @property
    def tiles(self) -> tuple[int, int]:
        """Of 2x2 results, along rows and columns."""
        return -(-self.rows // 2), -(-self.columns // 2)

    def transpose(self) -> "Geometry":
        """Of the convolution that is the cotangent of the images, at stride 1."""
        kh, kw, channels, features = self.kernel
        return self._replace(
            image=(self.rows, self.columns, features),
            kernel=(kh, kw, features, channels),
            padding=tuple(
                (size - 1 - low, size - 1 - high)
                for size, (low, high) in zip(self.window, self.padding)
            ),
        )

    def _size(self, axis: int) -> int:
        padded = self.image[axis] + sum(self.padding[axis])
        return (padded - self.window[axis]) // self.stride[axis] + 1
