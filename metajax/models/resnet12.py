"""ResNet-12, the deep network of the few-shot literature."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count, check_one_of
from metajax.errors import InputError
from metajax.models.blocks import check_images, map_shape
from metajax.models.dense import Head, linear_head
from metajax.models.headed import headed
from metajax.models.norms import Norm, NormName, Settle, norm_of, normed_model
from metajax.ops import conv2d, max_pool
from metajax.types import Array, Model, Params, PyTree, unpadded

Readout = Literal["mean", "flat"]
"""What a body returns of its last maps: their means, or the maps."""
BLOCKS, CONVOLUTIONS = 4, 3
LEAST = 2**BLOCKS  # rows and columns
SLOPE = 0.1


def resnet12(
    ways: int,
    widths: tuple[int, int, int, int] = (64, 160, 320, 640),
    pool: Readout = "mean",
    *,
    image_shape: tuple[int, int, int] = (84, 84, 3),
    head: Head = "zero",
    norm: NormName = "transductive",
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Four residual blocks of three convolutions, then a linear head.

      f(x) = norm(k₃ * σ(norm(k₂ * σ(norm(k₁ * x)))))
      x ← maxpool(σ(f(x) + norm(k₀ * x)))   (a block, of four)

    k₁ to k₃ are 3x3 and k₀ is 1x1, none with a bias; σ is a leaky ReLU of slope 0.1;
    the pool is 2x2 and drops an odd row or column. MetaOptNet's DropBlock is left out.

    Args:
      ways: the number of outputs.
      widths: the number of features of each block.
      pool: what the body returns of the last block's maps: "mean", their averages;
        "flat", the maps, which the head takes flattened, as in MetaOptNet.
      image_shape: (height, width, channels).
      head: where the linear head's kernel starts; see `metajax.conv4`.
      norm: what batch norm normalises by; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, height, width, channels]` to logits
      `[n, ways]`. Its kernels are drawn as MetaOptNet's, He's normal by the fan out.

    Raises:
      InputError: for a number below 1, other than four widths, an unknown `pool`,
        `head` or `norm`, or images of fewer than 16 rows or columns.

    >>> model = resnet12(5, (4, 8, 8, 16), image_shape=(32, 32, 3))
    >>> params = model.init(jax.random.key(0))
    >>> model.apply(params, jnp.zeros((3, 32, 32, 3))).shape
    (3, 5)

    Source: Oreshkin et al., "TADAM", NeurIPS 2018, for the depth; Lee et al.,
    "Meta-Learning with Differentiable Convex Optimization" (MetaOptNet), CVPR 2019,
    section 4.1, for the widths and the slope.
    """
    check_count("ways", ways, least=1)
    check_one_of("pool", pool, get_args(Readout))
    body = _body(image_shape, widths, pool, norm, dtype)
    last = map_shape(image_shape, widths[-1], [True] * BLOCKS)
    features = last[-1] if pool == "mean" else math.prod(last)
    return headed(body, linear_head(features, ways, head, dtype=dtype))


def _body(
    image_shape: tuple[int, int, int],
    widths: tuple[int, ...],
    pool: Readout,
    norm: NormName,
    dtype: jnp.dtype | type,
) -> Model:
    _check_sizes(image_shape, widths)
    batch_norm = norm_of(norm)

    def run(params: Params, inputs: PyTree, settle: Settle) -> tuple[Array, Params]:
        x, present = unpadded(inputs)
        check_images(x, image_shape)

        def layer(weights: Params, x: Array) -> tuple[Array, Params]:
            x = conv2d(x, weights["kernel"])
            weights = settle(weights, x, present)
            return batch_norm.apply(weights, x, present), weights

        settled = []
        for index, weights in enumerate(params):
            x, weights = _block(layer, weights, x)
            x = checkpoint_name(x, f"block{index}")
            settled.append(weights)
        return jnp.mean(x, (1, 2)) if pool == "mean" else x, settled

    channels = (image_shape[-1], *widths)
    return normed_model(batch_norm, partial(_init, batch_norm, channels, dtype), run)


def _block(
    layer: Callable[[Params, Array], tuple[Array, Params]], weights: Params, x: Array
) -> tuple[Array, Params]:
    """maxpool(σ(f(x) + norm(k₀ * x))), and the settled weights."""
    shortcut, settled_shortcut = layer(weights["shortcut"], x)
    first, *others = weights["convolutions"]
    x, settled = layer(first, x)
    convolutions = [settled]
    for convolution in others:
        x, settled = layer(convolution, jax.nn.leaky_relu(x, SLOPE))
        convolutions.append(settled)
    # σ after pooling is the same function with a quarter of the work.
    x = jax.nn.leaky_relu(max_pool(x + shortcut), SLOPE)
    return x, {"convolutions": convolutions, "shortcut": settled_shortcut}


def _init(
    norm: Norm, channels: tuple[int, ...], dtype: jnp.dtype | type, key: Array
) -> Params:
    draw = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")

    def layer(key: Array, side: int, inputs: int, outputs: int) -> Params:
        kernel = draw(key, (side, side, inputs, outputs), dtype)
        return {"kernel": kernel, **norm.init(outputs, dtype)}

    def block(key: Array, inputs: int, outputs: int) -> Params:
        first, *keys, last = jax.random.split(key, CONVOLUTIONS + 1)
        others = [layer(k, 3, outputs, outputs) for k in keys]
        return {
            "convolutions": [layer(first, 3, inputs, outputs), *others],
            "shortcut": layer(last, 1, inputs, outputs),
        }

    keys = jax.random.split(key, BLOCKS)
    return [block(k, *sizes) for k, sizes in zip(keys, pairwise(channels))]


def _check_sizes(image_shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    if len(widths) != BLOCKS:
        raise InputError(
            f"widths must be {BLOCKS} numbers, one for each block, got {widths}"
        )
    for width in widths:
        check_count("a width", width, least=1)
    if len(image_shape) == 3 and min(image_shape[:2]) < LEAST:
        raise InputError(
            f"resnet12 halves its images {BLOCKS} times, so they must be at least "
            f"{LEAST}x{LEAST}, got {image_shape}; use larger images, or conv4"
        )
