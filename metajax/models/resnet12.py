"""ResNet-12, the deep network of the few-shot literature."""

import math
from functools import partial
from typing import Literal, get_args

import jax.numpy as jnp

from metajax.checks import check_count, check_one_of
from metajax.errors import InputError
from metajax.models.blocks import check_images, map_shape
from metajax.models.dense import Head, linear_head
from metajax.models.headed import headed
from metajax.models.norms import NormName
from metajax.models.residual import residual_blocks
from metajax.types import Array, Model

Readout = Literal["mean", "flat"]
"""What a body returns of its last maps: their means, or the maps."""
BLOCKS = 4
LEAST = 2**BLOCKS  # rows and columns


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
      head: the initial kernel of the linear head; see `metajax.conv4`.
      norm: what batch norm normalises by; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, height, width, channels]` to logits
      `[n, ways]`. Its kernels are initialised as in MetaOptNet, with He's normal by
      fan-out.

    Raises:
      InputError: for a number below 1, other than four widths, an unknown `pool`,
        `head` or `norm`, or images of fewer than 16 rows or columns.

    >>> import jax
    >>> model = resnet12(5, (4, 8, 8, 16), image_shape=(32, 32, 3))
    >>> params = model.init(jax.random.key(0))
    >>> jax.jit(model.apply)(params, jnp.zeros((3, 32, 32, 3))).shape
    (3, 5)

    Source: Oreshkin et al., "TADAM", NeurIPS 2018, for the depth; Lee et al.,
    "Meta-Learning with Differentiable Convex Optimization" (MetaOptNet), CVPR 2019,
    section 4.1, for the widths and the slope.
    """
    check_count("ways", ways, least=1)
    check_one_of("pool", pool, get_args(Readout))
    _check_widths(widths)
    _check_size(image_shape)
    check = partial(check_images, image_shape=image_shape)
    read = {"mean": _means, "flat": _last}[pool]
    sizes = image_shape[-1], *widths
    body = residual_blocks(sizes, check, read, norm=norm, dtype=dtype)
    last = map_shape(image_shape, widths[-1], [True] * BLOCKS)
    features = last[-1] if pool == "mean" else math.prod(last)
    return headed(body, linear_head(features, ways, head, dtype=dtype))


def resnet12_maps(
    widths: tuple[int, int, int, int] = (64, 160, 320, 640),
    *,
    channels: int = 3,
    norm: NormName = "transductive",
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """The maps of features of the four blocks of `resnet12`, for dense predictions.

    Args:
      widths: the number of features of each block.
      channels: of the images.
      norm: what batch norm normalises by; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps images `[n, height, width, channels]` of any size
      from 16 x 16 to four maps, whose cells have 2, 4, 8 and 16 pixels a side: a
      backbone for `metajax.models.feature_pyramid`. Its parameters are those of
      `resnet12(...).parts[0]`.

    Raises:
      InputError: for a number below 1, other than four widths, or an unknown `norm`.

    >>> import jax
    >>> model = resnet12_maps((4, 8, 8, 16))
    >>> params = model.init(jax.random.key(0))
    >>> maps = jax.jit(model.apply)(params, jnp.zeros((1, 32, 48, 3)))
    >>> [x.shape for x in maps]
    [(1, 16, 24, 4), (1, 8, 12, 8), (1, 4, 6, 8), (1, 2, 3, 16)]
    """
    check_count("channels", channels, least=1)
    _check_widths(widths)

    def check(x: Array) -> None:
        check_images(x, (*jnp.shape(x)[1:3], channels))
        _check_size(jnp.shape(x)[1:])

    sizes = channels, *widths
    return residual_blocks(sizes, check, tuple, norm=norm, dtype=dtype)


def _means(maps: list[Array]) -> Array:
    return jnp.mean(maps[-1], (1, 2))


def _last(maps: list[Array]) -> Array:
    return maps[-1]


def _check_widths(widths: tuple[int, ...]) -> None:
    if len(widths) != BLOCKS:
        raise InputError(
            f"widths must be {BLOCKS} numbers, one for each block, got {widths}"
        )
    for width in widths:
        check_count("a width", width, least=1)


def _check_size(image_shape: tuple[int, ...]) -> None:
    if len(image_shape) == 3 and min(image_shape[:2]) < LEAST:
        raise InputError(
            f"resnet12 halves its images {BLOCKS} times, so they must be at least "
            f"{LEAST}x{LEAST}, got {image_shape}; use larger images, or conv4"
        )
