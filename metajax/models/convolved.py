"""A convolution with group norm and ReLU: the layer of networks for dense targets."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.ops import conv2d, group_norm
from metajax.types import Array, Params

GROUPS = 8
HE = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def init_convolved(
    key: Array, side: int, inputs: int, outputs: int, dtype: jnp.dtype | type
) -> Params:
    """The parameters of a layer, by He's normal.

    Args:
      key: a PRNG key.
      side: rows and columns of the kernel.
      inputs: channels that it takes.
      outputs: channels that it gives.
      dtype: the type of the parameters.

    Returns:
      `{"kernel", "scale", "offset"}`.
    """
    return {
        "kernel": HE(key, (side, side, inputs, outputs), dtype),
        "scale": jnp.ones(outputs, dtype),
        "offset": jnp.zeros(outputs, dtype),
    }


def convolved(weights: Params, x: Array, groups: int) -> Array:
    """ReLU(norm(k * x)), which treats each example independently.

    Args:
      weights: of `init_convolved`.
      x: `float[n, height, width, inputs]`.
      groups: of group norm.

    Returns:
      `float[n, height, width, outputs]`.
    """
    x = conv2d(x, weights["kernel"])
    return jax.nn.relu(group_norm(x, weights["scale"], weights["offset"], groups))


def check_widths(widths: Sequence[int], groups: int) -> None:
    """Checks the widths of layers with group norm.

    Raises:
      InputError: if there is none, one is below 1, or `groups` does not divide it.
    """
    check_count("groups", groups, least=1)
    if not widths:
        raise InputError("widths must be at least one number, got none")
    for width in widths:
        check_count("a width", width, least=1)
        if width % groups:
            raise InputError(
                f"groups must divide every width, got {groups} groups and a width of "
                f"{width}; take groups=1 for layer norm"
            )


def upsampled(x: Array) -> Array:
    """Twice as many rows and columns, each entry four times.

    >>> upsampled(jnp.arange(2.0).reshape(1, 1, 2, 1))[0, :, :, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    n, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return x.reshape(n, 2 * height, 2 * width, channels)
