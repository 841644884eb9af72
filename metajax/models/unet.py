"""U-Net: an encoder, and a decoder that sees its maps at every level."""

from collections.abc import Sequence
from functools import partial

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
    upsampled,
)
from metajax.models.encoder import Maps, encoder
from metajax.models.headed import headed
from metajax.models.initialise import init_named
from metajax.ops import conv2d
from metajax.types import Array, Model, Params, PyTree, unpadded

WIDTHS = (16, 32, 64, 64)


def decoder(
    widths: Sequence[int],
    *,
    stride: int = 1,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Joins an encoder's maps, from the coarsest to that of a stride.

      d = m_last,   d ← c_i([upsampled(d), m_i])   for i = last - 1, ..., log2(stride)

    Args:
      widths: the number of features of each map, finest first; those of level i are
        the decoder's there too.
      stride: of the result, a power of two below 2^levels: 1 is that of the images.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps the tuple of maps to `[n, height / stride, width /
      stride, widths[log2(stride)]]`.

    Raises:
      InputError: for another stride, a number below 1, or groups that do not divide a
        width.

    >>> maps = jnp.zeros((1, 4, 4, 8)), jnp.zeros((1, 2, 2, 16))
    >>> model = decoder((8, 16))
    >>> model.apply(model.init(jax.random.key(0)), maps).shape
    (1, 4, 4, 8)
    """
    check_widths(widths, groups)
    strides = [2**level for level in range(len(widths))]
    if stride not in strides:
        raise InputError(
            f"stride must be one of {strides} for {len(widths)} levels, got {stride!r}"
        )
    first = strides.index(stride)

    def init(key: Array) -> Params:
        keys = jax.random.split(key, len(widths))
        return [
            init_convolved(keys[i], 3, widths[i] + widths[i + 1], widths[i], dtype)
            for i in range(first, len(widths) - 1)
        ]

    def apply(params: Params, maps: Maps) -> Array:
        x = maps[-1]
        levels = list(zip(params, maps[first:]))
        for index, (weights, skipped) in enumerate(reversed(levels)):
            x = jnp.concatenate([upsampled(x), skipped], -1)
            x = checkpoint_name(convolved(weights, x, groups), f"decoded{index}")
        return x

    return Model(init, apply)


def unet_body(
    widths: Sequence[int] = WIDTHS,
    *,
    channels: int = 3,
    stride: int = 1,
    convolutions: int = 1,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Features of every place of an image: an `encoder` and its `decoder`.

    Args:
      widths: the number of features of each level, finest first.
      channels: of an image.
      stride: of the result; see `decoder`.
      convolutions: of a level of the encoder.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps images `[n, height, width, channels]` of any size,
      whose sides are multiples of 2^(levels - 1), to `[n, height / stride, width /
      stride, widths[log2(stride)]]`.

    Raises:
      InputError: see `encoder` and `decoder`.
    """
    down = encoder(
        widths,
        channels=channels,
        convolutions=convolutions,
        groups=groups,
        dtype=dtype,
    )
    up = decoder(widths, stride=stride, groups=groups, dtype=dtype)

    def apply(params: Params, inputs: PyTree) -> Array:
        return up.apply(params["decoder"], down.apply(params["encoder"], inputs))

    return Model(partial(init_named, {"encoder": down, "decoder": up}), apply)


def unet(
    outputs: int,
    widths: Sequence[int] = WIDTHS,
    *,
    channels: int = 3,
    convolutions: int = 1,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """A network from images to outputs of every pixel.

    Each example is computed independently of the others.

    Args:
      outputs: the number of outputs a pixel, such as classes and background.
      widths: the number of features of each level, finest first.
      channels: of an image.
      convolutions: of a level of the encoder.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps images `[n, height, width, channels]` of any
      size, whose sides are multiples of 2^(levels - 1), to `[n, height, width,
      outputs]`; the head is a linear layer of each pixel, whose kernel starts at zero.

    Raises:
      InputError: for a number below 1, groups that do not divide a width, or, when it
        is applied, images of another shape.

    >>> model = unet(2, (8, 16))
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((1, 12, 8, 3))).shape
    (1, 12, 8, 2)

    Source: Ronneberger et al., "U-Net", MICCAI 2015, with group norm and one
    convolution a level.
    """
    body = unet_body(
        widths,
        channels=channels,
        convolutions=convolutions,
        groups=groups,
        dtype=dtype,
    )
    return headed(body, pixel_head(widths[0], outputs, dtype=dtype))


def pixel_head(
    features: int, outputs: int, *, dtype: jnp.dtype | type = jnp.float32
) -> Model:
    """One linear layer of each pixel, whose kernel starts at zero.

    Args:
      features: the number of features of a pixel.
      outputs: the number of outputs.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, height, width, features]` to `[n, height, width,
      outputs]`.

    Raises:
      InputError: for a number below 1.
    """
    check_count("features", features, least=1)
    check_count("outputs", outputs, least=1)

    def init(key: Array) -> Params:
        kernel = jnp.zeros((1, 1, features, outputs), dtype)
        return {"kernel": kernel, "bias": jnp.zeros(outputs, dtype)}

    def apply(params: Params, features: PyTree) -> Array:
        x, _ = unpadded(features)
        bias = params["bias"].reshape(1, 1, 1, -1)
        return conv2d(x, params["kernel"]) + bias

    return Model(init, apply)
