"""U-Net: an encoder, and a decoder that sees its maps at every level."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count
from metajax.models.convolution import convolution
from metajax.models.convolved import (
    GROUPS,
    check_widths,
    convolved,
    init_convolved,
    upsampled,
)
from metajax.models.encoder import Maps, encoder
from metajax.models.headed import headed
from metajax.ops.patches import from_patches
from metajax.types import Array, Model, Params, PyTree

WIDTHS = (16, 32, 64, 64)


def decoder(
    widths: Sequence[int],
    *,
    level: int = 0,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Joins an encoder's maps, from the coarsest to that of a level.

      d = m_last,   d ← c_i([upsampled(d), m_i])   for i = last - 1, ..., level

    Args:
      widths: the number of features of each map, finest first; those of level i are
        the decoder's there too.
      level: of the result; 0 is the finest.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps the tuple of maps to features of that level's size,
      `[n, rows, columns, widths[level]]`.

    Raises:
      InputError: for a level that there is not, a number below 1, or groups that do not
        divide a width.

    >>> maps = jnp.zeros((1, 4, 4, 8)), jnp.zeros((1, 2, 2, 16))
    >>> model = decoder((8, 16))
    >>> model.apply(model.init(jax.random.key(0)), maps).shape
    (1, 4, 4, 8)
    """
    check_widths(widths, groups)
    check_count("level", level, least=0, most=len(widths) - 1)

    def init(key: Array) -> Params:
        keys = jax.random.split(key, len(widths))
        return [
            init_convolved(keys[i], 3, widths[i] + widths[i + 1], widths[i], dtype)
            for i in range(level, len(widths) - 1)
        ]

    def apply(params: Params, maps: Maps) -> Array:
        x = maps[-1]
        levels = list(zip(params, maps[level:]))
        for index, (weights, skipped) in enumerate(reversed(levels)):
            x = jnp.concatenate([upsampled(x), skipped], -1)
            x = checkpoint_name(convolved(weights, x, groups), f"decoded{index}")
        return x

    return Model(init, apply)


def unet_body(
    widths: Sequence[int] = WIDTHS,
    *,
    channels: int = 3,
    patch: int = 1,
    level: int = 0,
    convolutions: int = 1,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Features of every place of an image: an `encoder` and its `decoder`.

    Args:
      widths: the number of features of each level, finest first.
      channels: of an image.
      patch: see `encoder`.
      level: of the result; see `decoder`.
      convolutions: of a level of the encoder.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` of the two, whose `apply` maps images `[n, height, width,
      channels]` of any size, whose sides are multiples of patch 2^(levels - 1), to `[n,
      height / stride, width / stride, widths[level]]`, with a stride of patch 2^level.

    Raises:
      InputError: see `encoder` and `decoder`.
    """
    down = encoder(
        widths,
        channels=channels,
        patch=patch,
        convolutions=convolutions,
        groups=groups,
        dtype=dtype,
    )
    return headed(down, decoder(widths, level=level, groups=groups, dtype=dtype))


def unet(
    outputs: int,
    widths: Sequence[int] = WIDTHS,
    *,
    channels: int = 3,
    patch: int = 1,
    convolutions: int = 1,
    groups: int = GROUPS,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """U-Net: a network from images to outputs for every pixel.

    Each example is computed independently of the others.

    Args:
      outputs: the number of outputs per pixel, such as classes and background.
      widths: the number of features of each level, finest first.
      channels: of an image.
      patch: see `encoder`; the head gives the outputs of each pixel of a patch.
      convolutions: of a level of the encoder.
      groups: of group norm; 1 is layer norm.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps images `[n, height, width, channels]` of any
      size, whose sides are multiples of patch 2^(levels - 1), to `[n, height, width,
      outputs]`; its body is a `unet_body`, its head a `pixel_head`.

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
        patch=patch,
        convolutions=convolutions,
        groups=groups,
        dtype=dtype,
    )
    return headed(body, pixel_head(widths[0], outputs, patch=patch, dtype=dtype))


def pixel_head(
    features: int,
    outputs: int,
    *,
    patch: int = 1,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """One linear layer of each place, whose kernel starts at zero.

    Args:
      features: the number of features of a place.
      outputs: the number of outputs of a pixel.
      patch: rows and columns of pixels of a place.
      dtype: the type of the parameters.

    Returns:
      A `Model` whose `apply` maps `[n, rows, columns, features]` to `[n, patch rows,
      patch columns, outputs]`.

    Raises:
      InputError: for a number below 1.

    >>> head = pixel_head(8, 3, patch=2)
    >>> params = head.init(jax.random.key(0))
    >>> head.apply(params, jnp.zeros((1, 4, 4, 8))).shape
    (1, 8, 8, 3)
    """
    check_count("features", features, least=1)
    check_count("patch", patch, least=1)
    zeros = jax.nn.initializers.zeros
    each = check_count("outputs", outputs, least=1) * patch**2
    layer = convolution(1, features, each, initializer=zeros, dtype=dtype)

    def apply(params: Params, features: PyTree) -> Array:
        return from_patches(layer.apply(params, features), patch)

    return layer._replace(apply=apply)
