"""The shapes of a convolution, on which its form depends."""

import math
from typing import NamedTuple

from jax import lax

# A product takes whole patches if a row of a patch has fewer entries than this.
SHALLOW = 32
# Winograd's tiles pay for at least this many rows and columns, and this many channels
# and features.
LARGE, DEEP = 10, 16
Precision = lax.PrecisionLike
# The precisions at which float32 factors keep all their bits.
EXACT = ("highest", "float32", lax.Precision.HIGHEST)


class Geometry(NamedTuple):
    """The shapes and settings of a convolution; it is hashable."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[tuple[int, int], tuple[int, int]]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    precision: Precision

    @property
    def window(self) -> tuple[int, int]:
        """The rows and columns of an image that the kernel spans."""
        rows, columns = (
            d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel[:2])
        )
        return rows, columns

    @property
    def rows(self) -> int:
        """The number of rows of the result."""
        return self._size(0)

    @property
    def columns(self) -> int:
        """The number of columns of the result."""
        return self._size(1)

    @property
    def dense(self) -> bool:
        """Whether the stride is 1."""
        return self.stride == (1, 1)

    @property
    def shallow(self) -> bool:
        """Whether a row of a patch has few entries."""
        return math.prod(self.kernel[1:3]) < SHALLOW

    @property
    def tiled(self) -> bool:
        """Whether Winograd's tiles fit and pay, forward and backward."""
        return (
            self.kernel[:2] == (3, 3)
            and self.stride == self.dilation == (1, 1)
            and min(self.kernel[2:]) >= DEEP
            and min(self.rows, self.columns) >= LARGE
        )

    @property
    def tiles(self) -> tuple[int, int]:
        """The number of tiles of 2x2 results along rows and along columns."""
        return -(-self.rows // 2), -(-self.columns // 2)

    def transpose(self) -> "Geometry":
        """The convolution that computes the images' cotangent, at stride 1."""
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


class Sizes(NamedTuple):
    """What a convolution's form depends on.

    Attributes:
      geometry: the shapes.
      examples: the number of images that share a kernel.
    """

    geometry: Geometry
    examples: int
