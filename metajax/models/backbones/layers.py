"""Layers of pre-trained networks, of parameters that `Weights` took."""

import math

from metajax.ops import conv2d, linear
from metajax.ops.grouped import grouped_conv2d
from metajax.ops.normalisation import Moments, normalise
from metajax.ops.precision import wider
from metajax.types import Array, Params


def affine(weights: Params, x: Array) -> Array:
    """A linear layer of the last axis, with or without a bias.

    >>> import jax.numpy as jnp
    >>> affine({"kernel": jnp.ones((3, 2))}, jnp.ones((4, 5, 3))).shape
    (4, 5, 2)
    """
    kernel = weights["kernel"]
    y = linear(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kernel)
    return _with_bias(weights, y.reshape(*x.shape[:-1], y.shape[-1]))


def convolve(
    weights: Params, x: Array, stride: int = 1, padding: str | None = None
) -> Array:
    """A convolution, in as many groups as its kernel says.

    Args:
      weights: `{"kernel": [kh, kw, channels of a group, features]}`, and a "bias" if
        there is one.
      x: `float[n, height, width, channels]`.
      stride: of both axes.
      padding: "SAME", as TensorFlow pads; None for PyTorch's half of the window on
        every side.

    >>> import jax.numpy as jnp
    >>> convolve({"kernel": jnp.ones((3, 3, 1, 4))}, jnp.ones((1, 5, 5, 4)), 2).shape
    (1, 3, 3, 4)
    """
    kernel = weights["kernel"]
    if kernel.shape[:2] == (1, 1):
        x = x[:, ::stride, ::stride]
        return affine({**weights, "kernel": kernel[0, 0]}, x)
    pads = padding or [(side // 2, side // 2) for side in kernel.shape[:2]]
    whole = kernel.shape[2] == x.shape[3]
    run = conv2d if whole else grouped_conv2d
    return _with_bias(weights, run(x, kernel, stride=stride, padding=pads))


def embed_patches(weights: Params, x: Array) -> Array:
    """A convolution whose stride is its window, as one product.

    Rows and columns that fill no window are left out.

    >>> import jax.numpy as jnp
    >>> embed_patches({"kernel": jnp.ones((2, 2, 3, 8))}, jnp.ones((1, 5, 4, 3))).shape
    (1, 2, 2, 8)
    """
    side, _, channels, features = weights["kernel"].shape
    n, rows, columns = len(x), x.shape[1] // side, x.shape[2] // side
    x = x[:, : rows * side, : columns * side]
    x = x.reshape(n, rows, side, columns, side, channels).swapaxes(2, 3)
    kernel = weights["kernel"].reshape(-1, features)
    x = x.reshape(n, rows, columns, side * side * channels)
    return affine({**weights, "kernel": kernel}, x)


def batch_norm(weights: Params, x: Array, eps: float) -> Array:
    """Batch normalisation by the running statistics of pre-training."""
    wide = wider(x.dtype)
    channels = (1,) * (x.ndim - 1) + (-1,)
    mean, variance = (
        weights[name].value.astype(wide).reshape(channels)
        for name in ("mean", "variance")
    )
    moments = Moments(mean, variance)
    return normalise(x, moments, weights["scale"], weights["offset"], eps=eps)


def _with_bias(weights: Params, y: Array) -> Array:
    if "bias" not in weights:
        return y
    return y + weights["bias"].reshape((1,) * (y.ndim - 1) + (-1,))
