"""The forms of a convolution and of its transposes: matrix products over patches."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax.ops.bilinear import Product
from metajax.ops.precision import wider
from metajax.types import Array

# With fewer entries than this in a row of a patch, a product takes whole patches.
SHALLOW = 32
# Winograd's tiles pay for their transformations from this many rows, columns, channels
# and features on.
LARGE, DEEP = 10, 16
Precision = lax.PrecisionLike
# Those at which float32 factors keep their bits.
EXACT = ("highest", "float32", lax.Precision.HIGHEST)
# Bᵀ, G and Aᵀ of Winograd's F(2, 3).
INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


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


@functools.lru_cache
def product(geometry: Geometry) -> Product:
    """The forms that measured best on a CPU (`benchmarks/README.md`)."""
    dense = geometry.stride == (1, 1)

    def images(y: Array, kernel: Array) -> Array:
        if dense:
            turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
            return _correlate(geometry.transpose(), y, turned)
        return _whole_transposed(geometry, y, kernel)

    patch = math.prod(geometry.kernel[:3])
    return Product(
        functools.partial(_correlate, geometry),
        images,
        functools.partial(_kernel, geometry),
        geometry.image,
        (geometry.rows, geometry.columns, geometry.kernel[3]),
        geometry.kernel,
        bytes=4 * geometry.rows * geometry.columns * patch,
    )


def _correlate(geometry: Geometry, x: Array, kernel: Array) -> Array:
    if geometry.shallow or geometry.stride != (1, 1):
        return _whole(geometry, x, kernel)
    if _in_tiles(geometry, x):
        return _winograd(geometry, x, kernel)
    return _rows_after(geometry, x, kernel)


def _in_tiles(geometry: Geometry, x: Array) -> bool:
    """Not where Winograd's sums would be rounded before the product."""
    exact = wider(x.dtype) == x.dtype and geometry.precision in EXACT
    return geometry.tiled and exact


def _rows_after(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """At stride 1: columns are gathered before the product, rows summed after it."""
    kh, kw, channels, features = geometry.kernel
    columns = _columns(geometry, x)
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(kw * channels, kh * features)
    parts = jnp.split(_multiply(geometry, columns, kernel), kh, axis=3)
    rows = (_row_of(geometry, part, i) for i, part in enumerate(parts))
    return functools.reduce(jnp.add, rows).astype(x.dtype)


def _row_of(geometry: Geometry, x: Array, i: int) -> Array:
    """What row `i` of the kernel meets of the images, at stride 1."""
    first = geometry.dilation[0] * i - geometry.padding[0][0]
    return _padded(x, 1, -first, geometry.rows + first)


def _padded(x: Array, axis: int, low: int, end: int) -> Array:
    """Zeros before an axis, or entries cut off, and likewise after, to end at `end`."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (low, end - x.shape[axis], 0)
    return lax.pad(x, jnp.zeros((), x.dtype), padding)


def _winograd(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Winograd's F(2x2, 3x3), 16 products for four results in place of 36.

      y = Aᵀ ((G k Gᵀ) ∘ (Bᵀ d B)) A,   d a tile of 4x4 entries, y of 2x2

    Each transformation of a tile is one product with its Kronecker square.

    Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
    2016.
    """
    (rows, columns), (*_, channels, features) = geometry.tiles, kernel.shape
    kernel = _transformed(np.kron(KERNEL, KERNEL), kernel.reshape(9, -1))
    kernel = kernel.reshape(16, channels, features)
    tiles = _tiles(geometry, x).reshape(16, -1, channels)
    products = jnp.matmul(tiles, kernel, precision=geometry.precision)
    y = _transformed(np.kron(OUTPUT, OUTPUT), products)
    y = y.reshape(2, 2, x.shape[0], rows, columns, features).transpose(2, 3, 0, 4, 1, 5)
    y = y.reshape(-1, 2 * rows, 2 * columns, features)
    return y[:, : geometry.rows, : geometry.columns]


def _winograd_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent by the same tiles: Σ Gᵀ ((Bᵀ d B) ∘ (A y Aᵀ)) G."""
    (rows, columns), (*_, channels, features) = geometry.tiles, geometry.kernel
    # Turned around while it is small: a product over tiles needs them last.
    x = jnp.moveaxis(x, 3, 0).reshape(-1, *geometry.image[:2], 1)
    tiles = _tiles(geometry, x).reshape(16, channels, -1)
    y = _padded(_padded(y, 1, 0, 2 * rows), 2, 0, 2 * columns)
    y = y.reshape(-1, rows, 2, columns, 2, features).transpose(2, 4, 0, 1, 3, 5)
    y = _transformed(np.kron(OUTPUT, OUTPUT).T, y).reshape(16, -1, features)
    products = jnp.matmul(tiles, y, precision=geometry.precision)
    found = _transformed(np.kron(KERNEL, KERNEL).T, products)
    return found.reshape(geometry.kernel)


def _tiles(geometry: Geometry, x: Array) -> Array:
    """Winograd's transformed tiles Bᵀ d B of images, their 16 entries first."""
    (rows, columns), (images, *_, channels) = geometry.tiles, x.shape
    (top, _), (left, _) = geometry.padding
    x = _padded(_padded(x, 1, top, 2 * rows + 2 - top), 2, left, 2 * columns + 2 - left)
    # A tile is four squares of 2x2, which its neighbours share.
    squares = x.reshape(images, rows + 1, 2, columns + 1, 2, channels)
    squares = squares.transpose(2, 4, 0, 1, 3, 5)
    tiles = jnp.stack(
        [
            squares[:, :, :, i : i + rows, j : j + columns]
            for i, j in itertools.product(range(2), repeat=2)
        ]
    )
    by_square = np.kron(INPUT, INPUT).reshape(16, 2, 2, 2, 2).swapaxes(2, 3)
    return _transformed(by_square.reshape(16, 16), tiles)


def _transformed(square: np.ndarray, tiles: Array) -> Array:
    """A Kronecker square times tiles, whose entries are the first axes."""
    return jnp.matmul(
        jnp.asarray(square, tiles.dtype),
        tiles.reshape(square.shape[1], -1),
        precision=lax.Precision.HIGHEST,
    )


def _whole(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """One product over patches of the whole window."""
    patches = jnp.concatenate(_patches(geometry, x), axis=3)
    product = _multiply(geometry, patches, kernel.reshape(-1, geometry.kernel[3]))
    return product.astype(x.dtype)


def _whole_transposed(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at any stride: patches that are added up where they lie."""
    patches = _multiply(geometry, y, kernel.reshape(-1, geometry.kernel[3]).T)
    like = jax.ShapeDtypeStruct((y.shape[0], *geometry.image), patches.dtype)

    def gather(x: Array) -> Array:
        return jnp.concatenate(_patches(geometry, x), axis=3)

    return jax.linear_transpose(gather, like)(patches)[0].astype(y.dtype)


def _kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent: a product over examples.

    XLA turns the first factor of such a product around in memory, so the small one
    comes first: shallow patches, made turned around; or the images, with patches of the
    cotangent; or, at larger strides, where those would be mostly zeros, the cotangent.
    """
    if _in_tiles(geometry, x):
        return _winograd_kernel(geometry, x, y)
    kh, kw, channels, features = geometry.kernel
    if geometry.shallow:
        patches = [jnp.moveaxis(part, 3, 0) for part in _patches(geometry, x)]
        patches = jnp.stack(patches).reshape(kh * kw * channels, -1)
        found = _multiply(geometry, patches, y.reshape(-1, features))
        found = found.reshape(geometry.kernel)
    elif geometry.stride == (1, 1):
        patches = jnp.concatenate(_patches(geometry.transpose(), y), axis=3)
        found = _multiply(geometry, x, patches, over=3)
        found = found.reshape(channels, kh, kw, features)[:, ::-1, ::-1]
        found = jnp.moveaxis(found, 0, 2)
    else:
        patches = jnp.concatenate(_patches(geometry, x), axis=3)
        # A result of two axes XLA would turn around, and so take the patches first.
        patches = patches.reshape(*y.shape[:3], kh, kw * channels)
        found = _multiply(geometry, y, patches, over=3)
        found = jnp.moveaxis(found, 0, 2).reshape(geometry.kernel)
    return found.astype(x.dtype)


def _columns(geometry: Geometry, x: Array) -> Array:
    """What a row of the kernel meets: `[n, height, columns, kw channels]`."""
    return jnp.concatenate(_shifted(geometry, x, 1), axis=3)


def _patches(geometry: Geometry, x: Array) -> list[Array]:
    """What each row of the kernel meets: `[n, rows, columns, kw channels]`."""
    return _shifted(geometry, _columns(geometry, x), 0)


def _shifted(geometry: Geometry, x: Array, axis: int) -> list[Array]:
    """What each row, or column, of the kernel meets along that axis of the images."""
    along, (low, high) = axis + 1, geometry.padding[axis]
    x = _padded(x, along, low, x.shape[along] + high)
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    reach = stride * ((geometry.rows, geometry.columns)[axis] - 1) + 1
    return [
        lax.slice_in_dim(x, dilation * i, dilation * i + reach, stride, along)
        for i in range(geometry.kernel[axis])
    ]


def _multiply(geometry: Geometry, a: Array, b: Array, over: int = 0) -> Array:
    """The matrix product, or that over `over` first axes, in a type to add up in."""
    axes = tuple(range(over)) if over else (a.ndim - 1,)
    return lax.dot_general(
        a,
        b,
        ((axes, tuple(range(len(axes)))), ((), ())),
        precision=geometry.precision,
        preferred_element_type=wider(a.dtype),
    )
