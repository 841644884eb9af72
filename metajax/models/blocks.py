"""Stacks of the convolutional block of the few-shot literature."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count, check_one_of
from metajax.errors import InputError
from metajax.models.norms import Norm, NormName, Settle, norm_of, normed_model
from metajax.ops import conv2d, max_pool
from metajax.ops.normalisation import Moments, normalise
from metajax.types import Array, Model, Params, PyTree, unpadded

Halving = Literal["max", "stride"]
"""How a block halves its images: by max pooling, or by convolutions of stride 2."""


def blocks(
    image_shape: tuple[int, int, int],
    filters: int,
    halve: Sequence[bool],
    *,
    pooling: Halving = "max",
    norm: NormName = "transductive",
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Blocks of 3x3 convolution, batch norm and ReLU, of which some halve their images.

    The convolutions have no bias: batch norm would take it out again.

    Args:
      image_shape: (height, width, channels) of the inputs.
      filters: the number of features of each block.
      halve: for each block, whether it halves its images.
      pooling: how it does: "max" pools 2x2 windows, "stride" convolves at stride 2.
      norm: what batch norm normalises by; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, height, width, channels]` to maps of features,
      whose shape is that of `map_shape`.

    Raises:
      InputError: for a number of filters below 1, an unknown `pooling` or `norm`, or
        images that are too small to be halved so often.

    >>> body = blocks((28, 28, 1), 8, [True, True])
    >>> body.apply(body.init(jax.random.key(0)), jnp.zeros((3, 28, 28, 1))).shape
    (3, 7, 7, 8)
    """
    check_count("filters", filters, least=1)
    check_one_of("pooling", pooling, get_args(Halving))
    batch_norm = norm_of(norm)
    map_shape(image_shape, filters, halve, pooling=pooling)
    halving, plain = partial(_HALVE[pooling], batch_norm), partial(_layer, batch_norm)
    layers = [halving if halves else plain for halves in halve]

    def run(params: Params, inputs: PyTree, settle: Settle) -> tuple[Array, Params]:
        x, present = unpadded(inputs)
        check_images(x, image_shape)
        settled = []
        for block, (weights, layer) in enumerate(zip(params, layers)):
            x, weights = layer(weights, x, present, settle)
            settled.append(weights)
            x = checkpoint_name(jax.nn.relu(x), f"block{block}")
        return x, settled

    channels = (image_shape[-1],) + (filters,) * len(layers)
    return normed_model(batch_norm, partial(_init, batch_norm, channels, dtype), run)


def _init(
    norm: Norm, channels: Sequence[int], dtype: jnp.dtype | type, key: Array
) -> Params:
    keys = jax.random.split(key, len(channels) - 1)
    glorot = jax.nn.initializers.glorot_uniform()
    return [
        {"kernel": glorot(k, (3, 3, *sizes), dtype), **norm.init(sizes[1], dtype)}
        for k, sizes in zip(keys, pairwise(channels))
    ]


def _layer(
    norm: Norm,
    weights: Params,
    x: Array,
    present: Array | None,
    settle: Settle,
    *,
    stride: int = 1,
) -> tuple[Array, Params]:
    """A convolution, normalised, and its weights after these inputs."""
    x = conv2d(x, weights["kernel"], stride=stride)
    weights = settle(weights, x, present)
    return norm.apply(weights, x, present), weights


def _pooled_layer(
    norm: Norm, weights: Params, x: Array, present: Array | None, settle: Settle
) -> tuple[Array, Params]:
    """A layer and 2x2 max pooling of its outputs.

    Where the scale is positive, normalising is increasing, and so it can come after
    pooling, on a quarter of the data; the sign of the scale goes into the kernel.
    """
    scale = weights["scale"]
    one = jnp.ones((), scale.dtype)
    sign = jax.lax.stop_gradient(jnp.where(scale < 0, -one, one))
    turn = sign.reshape(1, 1, 1, -1)
    x = conv2d(x, weights["kernel"] * turn)
    weights = settle(weights, x * turn, present)
    moments = norm.moments(_turned(weights, turn), x, present)
    return normalise(max_pool(x), moments, scale * sign, weights["offset"]), weights


def _turned(weights: Params, turn: Array) -> Params:
    """Weights for channels that are multiplied by 1 or -1."""

    def turned(node: Any) -> Any:
        is_kept = isinstance(node, Moments)
        return node._replace(mean=node.mean * turn) if is_kept else node

    return jax.tree.map(turned, weights, is_leaf=lambda node: isinstance(node, Moments))


# How a block halves its images.
_HALVE = {"max": _pooled_layer, "stride": partial(_layer, stride=2)}


def check_images(x: Array, image_shape: tuple[int, ...]) -> None:
    """Checks that images have the shape that a network takes.

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
    pooling: Halving = "max",
) -> tuple[int, int, int]:
    """The shape of the features of an image by `blocks`.

    Args:
      image_shape: (height, width, channels) of the inputs.
      filters: the number of features of each block.
      halve: for each block, whether it halves its images.
      pooling: how it does.

    Returns:
      (height, width, filters).

    Raises:
      InputError: if the shape has other axes, or if halving leaves no pixel.

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
