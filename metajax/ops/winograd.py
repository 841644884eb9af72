"""Winograd's 3x3 convolution, with 16 products for four results instead of 36.

Transformed entries come first in memory, so that a transformation is one product with a
small constant matrix, and the 16 products of tiles are one batched product.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jax import lax

from metajax.ops.geometry import Geometry
from metajax.ops.padding import padded
from metajax.types import Array

# Bᵀ, G and Aᵀ of Winograd's F(2, 3).
INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def correlate(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """A convolution by Winograd's F(2x2, 3x3).

      y = Aᵀ ((G k Gᵀ) ∘ (Bᵀ d B)) A,   with 4x4 tiles d and 2x2 results y

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


def kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent by the same tiles: Σ Gᵀ ((Bᵀ d B) ∘ (A y Aᵀ)) G."""
    (rows, columns), (*_, channels, features) = geometry.tiles, geometry.kernel
    # The product sums over tiles, so they must be the last axis; it is cheaper to move
    # the channels now than after tiling, which makes four times as many entries.
    x = jnp.moveaxis(x, 3, 0).reshape(-1, *geometry.image[:2], 1)
    tiles = _tiles(geometry, x).reshape(16, channels, -1)
    y = padded(padded(y, 1, 0, 2 * rows), 2, 0, 2 * columns)
    y = y.reshape(-1, rows, 2, columns, 2, features).transpose(2, 4, 0, 1, 3, 5)
    y = _transformed(np.kron(OUTPUT, OUTPUT).T, y).reshape(16, -1, features)
    products = jnp.matmul(tiles, y, precision=geometry.precision)
    cotangent = _transformed(np.kron(KERNEL, KERNEL).T, products)
    return cotangent.reshape(geometry.kernel)


def _tiles(geometry: Geometry, x: Array) -> Array:
    """The transformed tiles Bᵀ d B of images, with their 16 entries first."""
    (rows, columns), (images, *_, channels) = geometry.tiles, x.shape
    (top, _), (left, _) = geometry.padding
    x = padded(padded(x, 1, top, 2 * rows + 2 - top), 2, left, 2 * columns + 2 - left)
    # A 4x4 tile consists of four 2x2 squares, which it shares with its neighbours, so
    # tiles are slices of the squares and nothing is gathered.
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
    """Multiplies a Kronecker square by tiles, whose entries are the first axes.

    It has full precision, so that sums are not rounded before the products.
    """
    return jnp.matmul(
        jnp.asarray(square, tiles.dtype),
        tiles.reshape(square.shape[1], -1),
        precision=lax.Precision.HIGHEST,
    )
