"""The four-block convolutional network of the few-shot literature."""

import math

import jax.numpy as jnp

from metajax.checks import check_count
from metajax.models.blocks import Halving, blocks, map_shape
from metajax.models.dense import Head, linear_head
from metajax.models.headed import headed
from metajax.models.norms import NormName
from metajax.types import Model

BLOCKS = 4


def conv4(
    ways: int,
    filters: int = 64,
    pooling: Halving = "max",
    *,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    head: Head = "zero",
    norm: NormName = "transductive",
    halvings: int = BLOCKS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Four blocks of 3x3 convolution, batch norm, ReLU and halving, then a linear head.

    The convolutions have no bias: batch norm would take it out again.

    Args:
      ways: the number of outputs.
      filters: the number of features of each block.
      pooling: how a block halves its images: "max" pools 2x2 windows (an odd row is
        dropped), "stride" convolves at stride 2 (four times cheaper; the form of
        Finn's Omniglot code).
      image_shape: (height, width, channels).
      head: the initial kernel of the linear head: "zero", which prefers no label (1 %
        more accurate on Omniglot), or "glorot"; or "cosine", a
        `metajax.models.cosine_head` in its place, as in Baseline++.
      norm: what batch norm normalises by. "transductive": the current batch, so that
        queries share their statistics, as in most papers. "support": the support set,
        so that queries are predicted independently. "task", TaskNorm-I: the support set
        and each image itself, in a learnt share for each block, which the inner loop
        adapts with the rest.
      halvings: the number of blocks that halve their images, from the first on; 2 leave
        larger maps, for `relation` to compare.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, height, width, channels]` to logits
      `[n, ways]`.

    Raises:
      InputError: for a number out of range, an unknown `pooling`, `head` or `norm`, or
        images too small for so many halvings with max pooling.

    >>> import jax
    >>> model = conv4(ways=5, filters=8)
    >>> params = model.init(jax.random.key(0))
    >>> model.apply(params, jnp.zeros((3, 28, 28, 1))).shape
    (3, 5)

    Source: Vinyals et al., "Matching Networks", NeurIPS 2016, section 4.1; Bronskill
    et al., "TaskNorm", ICML 2020, for the norms.
    """
    check_count("ways", ways, least=1)
    check_count("halvings", halvings, least=0, most=BLOCKS)
    halve = [block < halvings for block in range(BLOCKS)]
    body = blocks(image_shape, filters, halve, pooling=pooling, norm=norm, dtype=dtype)
    features = math.prod(map_shape(image_shape, filters, halve, pooling=pooling))
    return headed(body, linear_head(features, ways, head, dtype=dtype))
