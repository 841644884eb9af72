"""The convolutional block of the few-shot literature, some of them one on another."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count, check_one_of
from metajax.errors import InputError
from metajax.models.norms import Norm, NormName, Settle, as_it_is, norm_of
from metajax.ops import conv2d, max_pool
from metajax.ops.normalisation import Moments, normalise
from metajax.types import Array, Model, Params, PyTree, keep, unpadded

Pooling = Literal["max", "stride"]


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
    layer = partial(_HALVE[pooling], by), partial(_layer, by)
    layers = [layer[0] if halves else layer[1] for halves in halve]

    def init(key: Array) -> Params:
        keys = jax.random.split(key, len(layers))
        channels = (image_shape[-1],) + (filters,) * (len(layers) - 1)
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
        for block, (weights, layer) in enumerate(zip(params, layers)):
            x, weights = layer(weights, x, present, settle)
            after.append(weights)
            x = checkpoint_name(jax.nn.relu(x), f"block{block}")
        return x, after

    def apply(params: Params, inputs: PyTree) -> Array:
        return run(params, inputs, as_it_is)[0]

    def settle(params: Params, inputs: PyTree) -> Params:
        return run(params, inputs, by.settle)[1]

    return Model(init, apply, settle=keep if by.settle is as_it_is else settle)


def _layer(
    by: Norm,
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
    return by.apply(weights, x, present), weights


def _pooled_layer(
    by: Norm, weights: Params, x: Array, present: Array | None, settle: Settle
) -> tuple[Array, Params]:
    """The same with its maxima alone.

    Where the scale is positive, normalising is increasing, and so can wait until a
    quarter of the data is left; the sign of the scale goes into the kernel.
    """
    scale = weights["scale"]
    one = jnp.ones((), scale.dtype)
    sign = jax.lax.stop_gradient(jnp.where(scale < 0, -one, one))
    turn = sign.reshape(1, 1, 1, -1)
    x = conv2d(x, weights["kernel"] * turn)
    weights = settle(weights, x * turn, present)
    moments = by.moments(_turned(weights, turn), x, present)
    return normalise(max_pool(x), moments, scale * sign, weights["offset"]), weights


def _turned(weights: Params, turn: Array) -> Params:
    """Weights whose moments are of channels times 1 or -1."""

    def turned(node: Any) -> Any:
        is_kept = isinstance(node, Moments)
        return node._replace(mean=node.mean * turn) if is_kept else node

    return jax.tree.map(turned, weights, is_leaf=lambda node: isinstance(node, Moments))


# How a block halves its images.
_HALVE = {"max": _pooled_layer, "stride": partial(_layer, stride=2)}


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
