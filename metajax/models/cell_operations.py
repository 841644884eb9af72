"""The operations of a cell of an architecture search.

An operation is applied to one state for all edges that leave it: what has no weights is
computed once, and convolutions of several edges are one convolution.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.models.convolved import HE
from metajax.ops import conv2d
from metajax.ops.normalisation import batch_moments, normalise
from metajax.ops.windows import depthwise_conv2d, max_window, mean_window
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


class Place(NamedTuple):
    """Where an operation is.

    Attributes:
      stride: 2 where it halves its maps.
      present: which examples count in batch norm; None of all.
    """

    stride: int
    present: Array | None = None


class Operation(NamedTuple):
    """An operation on maps of features, which keeps their number of channels.

    Attributes:
      init: `init(key, channels, stride, dtype) -> weights` of an edge; empty of what
        has none.
      apply: `apply([weights], x, place) -> [y]`, for each of several edges.
    """

    init: Callable[[Array, int, int, jnp.dtype | type], Params]
    apply: Callable[[Sequence[Params], Array, Place], list[Array]]


def normed(x: Array, present: Array | None) -> Array:
    """Batch norm by the current batch, without scale and offset."""
    channels = x.shape[-1]
    one, zero = jnp.ones(channels, x.dtype), jnp.zeros(channels, x.dtype)
    return normalise(x, batch_moments(x, present), one, zero)


def halved(kernel: Array, x: Array) -> Array:
    """1x1 convolutions at stride 2, half of which begin one row and column later."""
    half = kernel.shape[-1] // 2
    later = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    parts = (x, kernel[..., :half]), (later, kernel[..., half:])
    return jnp.concatenate([conv2d(*part, stride=2) for part in parts], -1)


def _without_weights(
    key: Array, channels: int, stride: int, dtype: jnp.dtype | type
) -> Params:
    return {}


def _convolution(side: int) -> Operation:
    """Norm(k * ReLU(x)) with kernels of side x side."""
    around = (side // 2, side // 2)

    def init(key: Array, channels: int, stride: int, dtype: jnp.dtype | type) -> Params:
        return {"kernel": HE(key, (side, side, channels, channels), dtype)}

    def apply(weights: Sequence[Params], x: Array, place: Place) -> list[Array]:
        kernel = jnp.concatenate([w["kernel"] for w in weights], -1)
        pads = around, around
        y = conv2d(jax.nn.relu(x), kernel, stride=place.stride, padding=pads)
        return jnp.split(normed(y, place.present), len(weights), -1)

    return Operation(init, apply)


def _separable(dilation: int) -> Operation:
    """Norm(k₁ * (k₃ * ReLU(x))): k₃ is 3x3 of each channel, and k₁ is 1x1."""

    def init(key: Array, channels: int, stride: int, dtype: jnp.dtype | type) -> Params:
        deep, across = jax.random.split(key)
        return {
            "depthwise": HE(deep, (3, 3, 1, channels), dtype),
            "pointwise": HE(across, (1, 1, channels, channels), dtype),
        }

    def apply(weights: Sequence[Params], x: Array, place: Place) -> list[Array]:
        x = jax.nn.relu(x)

        def one(w: Params) -> Array:
            y = depthwise_conv2d(
                x, w["depthwise"], stride=place.stride, dilation=dilation
            )
            return normed(conv2d(y, w["pointwise"]), place.present)

        return [one(w) for w in weights]

    return Operation(init, apply)


def _pooling(pool: Callable[..., Array]) -> Operation:
    def apply(weights: Sequence[Params], x: Array, place: Place) -> list[Array]:
        return [normed(pool(x, stride=place.stride), place.present)] * len(weights)

    return Operation(_without_weights, apply)


def _skip() -> Operation:
    """The identity; at stride 2, norm(`halved`(ReLU(x)))."""

    def init(key: Array, channels: int, stride: int, dtype: jnp.dtype | type) -> Params:
        if stride == 1:
            return {}
        return {"kernel": HE(key, (1, 1, channels, channels), dtype)}

    def apply(weights: Sequence[Params], x: Array, place: Place) -> list[Array]:
        if place.stride == 1:
            return [x] * len(weights)
        x = jax.nn.relu(x)
        return [normed(halved(w["kernel"], x), place.present) for w in weights]

    return Operation(init, apply)


BY_NAME: dict[OperationName, Operation] = {
    "skip": _skip(),
    "max-pool-3x3": _pooling(max_window),
    "avg-pool-3x3": _pooling(mean_window),
    "conv-1x1": _convolution(1),
    "conv-3x3": _convolution(3),
    "separable-3x3": _separable(1),
    "dilated-3x3": _separable(2),
}
"""All but "none", which adds nothing."""
