"""The convolutional block of the few-shot literature, some of them one on another."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.errors import InputError
from metajax.models.norms import NormName, Settle, as_it_is, norm_of
from metajax.ops import conv2d, max_pool
from metajax.types import (
    Array,
    Model,
    Params,
    PyTree,
    check_count,
    check_one_of,
    keep,
    unpadded,
)

Pooling = Literal["max", "stride"]
# The stride of a block's convolution, and what follows it.
_HALVE = {"max": (1, max_pool), "stride": (2, lambda x: x)}
_KEEP = (1, lambda x: x)


def blocks(
    image_shape: tuple[int, int, int],
    filters: int,
    halve: Sequence[bool],
    *,
    pooling: Pooling = "max",
    norm: NormName = "transductive",
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Blocks of 3x3 convolution, batch norm and ReLU, of which some halve their images.

    The convolutions have no bias: batch norm would take it out again.

    Args:
      image_shape: (height, width, channels) of the inputs.
      filters: the number of features of each block.
      halve: whether each block does.
      pooling: how it does, see `metajax.conv4`.
      norm: see there.
      dtype: of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, height, width, channels]` to maps of features
      of the shape `map_shape` says.

    Raises:
      InputError: for a number of filters below 1, an unknown `pooling` or `norm`, or
        images that are too small to be halved so often.

    >>> body = blocks((28, 28, 1), 8, [True, True])
    >>> body.apply(body.init(jax.random.key(0)), jnp.zeros((3, 28, 28, 1))).shape
    (3, 7, 7, 8)
    """
    check_count("filters", filters, least=1)
    check_one_of("pooling", pooling, get_args(Pooling))
    by = norm_of(norm)
    map_shape(image_shape, filters, halve, pooling=pooling)
    forms = [_HALVE[pooling] if halves else _KEEP for halves in halve]

    def init(key: Array) -> Params:
        keys = jax.random.split(key, len(forms))
        channels = (image_shape[-1],) + (filters,) * (len(forms) - 1)
        glorot = jax.nn.initializers.glorot_uniform()
        return [
            {
                "kernel": glorot(k, (3, 3, c, filters), dtype),
                **by.init(filters, dtype),
            }
            for k, c in zip(keys, channels)
        ]

    def run(params: Params, inputs: PyTree, settle: Settle) -> tuple[Array, Params]:
        """The features, and the parameters after these inputs."""
        x, present = unpadded(inputs)
        check_images(x, image_shape)
        after = []
        for block, (weights, (stride, shrink)) in enumerate(zip(params, forms)):
            x = conv2d(x, weights["kernel"], stride=stride)
            after.append(weights := settle(weights, x, present))
            # ReLU after pooling is the same function with a quarter of the work.
            x = jax.nn.relu(shrink(by.apply(weights, x, present)))
            x = checkpoint_name(x, f"block{block}")
        return x, after

    def apply(params: Params, inputs: PyTree) -> Array:
        return run(params, inputs, as_it_is)[0]

    def settle(params: Params, inputs: PyTree) -> Params:
        return run(params, inputs, by.settle)[1]

    return Model(init, apply, settle=keep if by.settle is as_it_is else settle)


def check_images(x: Array, image_shape: tuple[int, ...]) -> None:
    """Checks that images are of the shape a network is for.

    Raises:
      InputError: if they are not.
    """
    if jnp.shape(x)[1:] != tuple(image_shape):
        raise InputError(
            f"this network takes images [n, {', '.join(map(str, image_shape))}], "
            f"got {jnp.shape(x)}; build it with image_shape=(height, width, channels)"
        )


def map_shape(
    image_shape: tuple[int, int, int],
    filters: int,
    halve: Sequence[bool],
    *,
    pooling: Pooling = "max",
) -> tuple[int, int, int]:
    """The shape of what `blocks` makes of an image.

    Args:
      image_shape: see `blocks`.
      filters: see there.
      halve: see there.
      pooling: see there.

    Returns:
      (height, width, filters).

    Raises:
      InputError: if the shape has other axes, or halving leaves nothing.

    >>> map_shape((28, 28, 1), 64, [True] * 4), map_shape((5, 5, 3), 64, [False])
    ((1, 1, 64), (5, 5, 64))
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise InputError(
            f"image_shape must be (height, width, channels), got {image_shape}"
        )
    times = sum(halve)
    spare = {"max": 0, "stride": 1}[pooling]
    height, width, _ = image_shape
    for _ in range(times):
        height, width = (height + spare) // 2, (width + spare) // 2
    if min(height, width) < 1:
        raise InputError(
            f"{times} blocks with max pooling need images of at least {2**times}x"
            f'{2**times}, got {image_shape}; use larger images or pooling="stride"'
        )
    return height, width, filters
