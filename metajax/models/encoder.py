"""An encoder: maps of features of an image, each half the size of the one before."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.models.convolved import (
    GROUPS,
    check_widths,
    convolved,
    init_convolved,
)
from metajax.ops import max_pool
from metajax.ops.patches import to_patches
from metajax.types import Array, Model, Params, PyTree, unpadded

Maps = tuple[Array, ...]
"""Maps of features, finest first: `float[n, rows / 2^i, columns / 2^i, widths[i]]`."""


def encoder(
    widths: Sequence[int],
    *,
    channels: int = 3,
    patch: int = 1,
    convolutions: int = 1,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """3x3 convolutions with group norm and ReLU, halved by max pooling between levels.

      m_0 = c_0(patches(x)),   m_{i+1} = c_{i+1}(maxpool(m_i))

    Args:
      widths: the number of features of each level, finest first.
      channels: of an image.
      patch: rows and columns of the patches of an image that the first level takes as
        one pixel each; 1 for its pixels, 2 for about a quarter of the work.
      convolutions: of a level.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps images `[n, height, width, channels]` of any size,
      whose sides are multiples of patch 2^(levels - 1), to a tuple of maps, finest
        first.

    Raises:
      InputError: for a number below 1, or groups that do not divide a width; when it is
        applied, for images of other channels or such a size.

    >>> model = encoder((8, 16))
    >>> maps = model.apply(model.init(jax.random.key(0)), jnp.zeros((1, 12, 8, 3)))
    >>> [m.shape for m in maps]
    [(1, 12, 8, 8), (1, 6, 4, 16)]
    """
    check_widths(widths, groups)
    check_count("channels", channels, least=1)
    check_count("convolutions", convolutions, least=1)
    check_count("patch", patch, least=1)
    levels = list(pairwise((channels * patch**2, *widths)))

    def init(key: Array) -> Params:
        keys = jax.random.split(key, (len(levels), convolutions))
        return [_init_level(row, *sizes, dtype) for row, sizes in zip(keys, levels)]

    def apply(params: Params, inputs: PyTree) -> Maps:
        x, _ = unpadded(inputs)
        _check_sides(x, channels, patch * 2 ** (len(levels) - 1))
        x, maps = to_patches(x, patch), []
        for index, level in enumerate(params):
            x = max_pool(x) if index else x
            for weights in level:
                x = convolved(weights, x, groups)
            maps.append(checkpoint_name(x, f"block{index}"))
        return tuple(maps)

    return Model(init, apply)


def _init_level(
    keys: Array, inputs: int, outputs: int, dtype: jnp.dtype | type
) -> Params:
    """The convolutions of a level, the first of which changes the width."""
    first, *others = keys
    more = [init_convolved(key, 3, outputs, outputs, dtype) for key in others]
    return [init_convolved(first, 3, inputs, outputs, dtype), *more]


def _check_sides(x: Array, channels: int, least: int) -> None:
    shape = jnp.shape(x)
    good = len(shape) == 4 and shape[3] == channels
    if not good or any(side < 1 or side % least for side in shape[1:3]):
        raise InputError(
            f"this encoder takes images [n, height, width, {channels}] whose sides are "
            f"multiples of {least}, got {shape}; resize or pad them, or take fewer "
            "levels"
        )
