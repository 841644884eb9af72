"""The comparator of relation networks, of two maps of features."""

import math

import jax.numpy as jnp

from metajax.models.blocks import blocks, map_shape
from metajax.models.headed import headed
from metajax.models.mlp import mlp
from metajax.models.norms import NormName
from metajax.types import Model

LEAST = 2  # pixels; smaller maps are not halved


def comparator(
    pair_shape: tuple[int, int, int],
    filters: int = 64,
    hidden: int = 8,
    *,
    norm: NormName = "transductive",
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Two convolutional blocks and two linear layers, of a pair's joined features.

    Each block halves its maps by max pooling while they have at least 2x2 pixels.

    Args:
      pair_shape: (height, width, channels) of a pair, with twice the body's channels.
      filters: the number of features of each block.
      hidden: the width of the first linear layer.
      norm: what batch norm, over pairs, normalises by; see `metajax.conv4`.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps pairs `[n, height, width, channels]` to
      logits `[n, 1]`.

    Raises:
      InputError: for a number below 1.

    >>> import jax
    >>> model = comparator((7, 7, 8), filters=4)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((5, 7, 7, 8))).shape
    (5, 1)

    Source: Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning",
    CVPR 2018, figure 2.
    """
    size, halve = tuple(pair_shape), []
    for _ in range(2):
        halve.append(min(size[:2]) >= LEAST)
        size = map_shape(pair_shape, filters, halve)
    body = blocks(pair_shape, filters, halve, norm=norm, dtype=dtype)
    return headed(body, mlp(math.prod(size), (hidden,), 1, dtype=dtype))
