"""The operations of a cell of an architecture search.

All convolutions of a state at one dilation are computed as one, whichever edges they
belong to: a separable convolution is one whose kernel is a product, and a skip that
halves its maps is one of two taps. Few large operations are quicker to compile, and to
run, than many small ones.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.models.convolved import HE
from metajax.ops import conv2d
from metajax.ops.normalisation import batch_moments, normalise
from metajax.ops.windows import max_window, mean_window
from metajax.types import Array, Params

OperationName = Literal[
    "none",
    "skip",
    "max-pool-3x3",
    "avg-pool-3x3",
    "conv-1x1",
    "conv-3x3",
    "separable-3x3",
    "dilated-3x3",
]
OPERATIONS: tuple[OperationName, ...] = get_args(OperationName)


class Convolution(NamedTuple):
    """An operation with weights, k * ReLU(x), which is then normalised.

    Attributes:
      init: `init(key, channels, dtype) -> weights`.
      kernel: `kernel(weights) -> k`, of 1x1 or 3x3 places.
      dilation: of k.
    """

    init: Callable[[Array, int, jnp.dtype | type], Params]
    kernel: Callable[[Params], Array]
    dilation: int = 1


def _dense(side: int) -> Callable[[Array, int, jnp.dtype | type], Params]:
    def init(key: Array, channels: int, dtype: jnp.dtype | type) -> Params:
        return {"kernel": HE(key, (side, side, channels, channels), dtype)}

    return init


def _init_separable(key: Array, channels: int, dtype: jnp.dtype | type) -> Params:
    deep, across = jax.random.split(key)
    of_each = HE(deep, (3, 3, 1, channels), dtype)
    return {
        "depthwise": of_each.reshape(3, 3, channels, 1),
        "pointwise": HE(across, (1, 1, channels, channels), dtype),
    }


def _separable(weights: Params) -> Array:
    """A 3x3 convolution of each channel, and a 1x1 convolution of the results."""
    return weights["depthwise"] * weights["pointwise"]


def _plain(weights: Params) -> Array:
    return weights["kernel"]


def halving_kernel(kernel: Array) -> Array:
    """Of 1x1 convolutions at stride 2, half of which begin one row and column later.

    >>> halving_kernel(jnp.ones((1, 1, 1, 2)))[..., 0, 1].tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    half = kernel.shape[-1] // 2
    centre = ((1, 1), (1, 1), (0, 0), (0, 0))
    later = ((2, 0), (2, 0), (0, 0), (0, 0))
    parts = jnp.pad(kernel[..., :half], centre), jnp.pad(kernel[..., half:], later)
    return jnp.concatenate(parts, -1)


CONVOLUTIONS: dict[OperationName, Convolution] = {
    "conv-1x1": Convolution(_dense(1), _plain),
    "conv-3x3": Convolution(_dense(3), _plain),
    "separable-3x3": Convolution(_init_separable, _separable),
    "dilated-3x3": Convolution(_init_separable, _separable, 2),
}
HALVING_SKIP = Convolution(_dense(1), lambda w: halving_kernel(w["kernel"]))
POOLINGS: dict[OperationName, Callable[..., Array]] = {
    "max-pool-3x3": max_window,
    "avg-pool-3x3": mean_window,
}


def convolution_of(name: OperationName, stride: int) -> Convolution | None:
    """The convolution that an operation is; None of one without weights."""
    return HALVING_SKIP if name == "skip" and stride == 2 else CONVOLUTIONS.get(name)


def normed(x: Array, present: Array | None) -> Array:
    """Batch norm by the current batch, without scale and offset.

    Args:
      x: `float[n, height, width, channels, ...]`.
      present: which examples count; None of all.

    Returns:
      An array of the shape of `x`.
    """
    flat = x.reshape(*x.shape[:3], -1)
    channels = flat.shape[-1]
    one, zero = jnp.ones(channels, x.dtype), jnp.zeros(channels, x.dtype)
    return normalise(flat, batch_moments(flat, present), one, zero).reshape(x.shape)


def convolutions(
    kernels: Sequence[Array], x: Array, *, stride: int, dilation: int = 1
) -> Array:
    """K * ReLU(x) of several kernels.

    Args:
      kernels: of 1x1 or 3x3 places, to equally many channels.
      x: `float[n, height, width, channels]`.
      stride: of all.
      dilation: of all.

    Returns:
      `float[n, ⌈height / stride⌉, ⌈width / stride⌉, channels, kernels]`.
    """
    reach = max(len(kernel) for kernel in kernels) // 2
    stacked = jnp.stack([_widened(kernel, reach) for kernel in kernels], -1)
    pads = (dilation * reach, dilation * reach)
    y = conv2d(
        jax.nn.relu(x),
        stacked.reshape(*stacked.shape[:3], -1),
        stride=stride,
        padding=(pads, pads),
        dilation=dilation,
    )
    return y.reshape(*y.shape[:3], *stacked.shape[3:])


def _widened(kernel: Array, reach: int) -> Array:
    """A kernel with zeros around, so that it reaches so far."""
    more = reach - len(kernel) // 2
    return jnp.pad(kernel, ((more, more), (more, more), (0, 0), (0, 0)))
