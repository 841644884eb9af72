"""Convolution as a matrix product over patches.

After one inner step every task has its own kernel, and a vmapped convolution turns into
a grouped one, slow in both derivatives. A matrix product over patches turns into a
batched matrix product, and so do all its derivatives.
"""

import jax.numpy as jnp

from metajax.types import Array


def conv2d(x: Array, kernel: Array, *, stride: int = 1) -> Array:
    """Two-dimensional cross-correlation, zero-padded ("SAME" in TensorFlow's sense).

      y[n, p, q, o] = Σ_{i,j,c} x[n, s p + i - top, s q + j - left, c] k[i, j, c, o]

    Args:
      x: images, `float[n, height, width, channels]`.
      kernel: `float[kh, kw, channels, features]`.
      stride: s, of both axes.

    Returns:
      `float[n, ⌈height / s⌉, ⌈width / s⌉, features]`.

    >>> conv2d(jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 8)), stride=2).shape
    (2, 3, 3, 8)
    """
    kh, kw, channels, features = kernel.shape
    columns = _patches(x, (kh, kw), stride)
    return columns @ kernel.reshape(kh * kw * channels, features)


def _patches(x: Array, window: tuple[int, int], stride: int) -> Array:
    """`[n, h, w, c] -> [n, ⌈h / s⌉, ⌈w / s⌉, kh kw c]`, by slices alone."""
    n, height, width, channels = x.shape
    (rows, above, below), (columns, left, right) = (
        _same(size, k, stride) for size, k in zip((height, width), window)
    )
    x = jnp.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
    spans = (stride * (rows - 1) + 1, stride * (columns - 1) + 1)
    return jnp.concatenate(
        [
            x[:, i : i + spans[0] : stride, j : j + spans[1] : stride]
            for i in range(window[0])
            for j in range(window[1])
        ],
        axis=-1,
    )


def _same(size: int, window: int, stride: int) -> tuple[int, int, int]:
    """Output size, and the padding before and after."""
    out = -(-size // stride)
    total = max((out - 1) * stride + window - size, 0)
    return out, total // 2, total - total // 2
