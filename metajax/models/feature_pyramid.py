"""One fine map of features from maps of several sizes."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model
from metajax.errors import InputError
from metajax.models.convolution import convolution
from metajax.models.convolved import upsampled
from metajax.models.headed import headed
from metajax.models.initialise import init_each
from metajax.types import Array, Model, Params, PyTree, unpadded


def feature_pyramid(
    backbone: Model,
    widths: Sequence[int],
    filters: int = 64,
    *,
    finest: int = 0,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Adds what coarse maps know to a fine one, from the top down.

      p_l = k_l * c_l + up(p_{l+1}),   p_top = k_top * c_top,   y = k * p_finest

    c_l are the backbone's maps; the k_l are 1x1, k is 3x3, all with a bias; up repeats
    each place. The pyramid's coarser outputs are left out, since a detector of centres
    has one map.

    Args:
      backbone: from images to a sequence of maps `[n, rows, columns, channels]`, the
        finest first: `metajax.models.resnet12_maps`, `encoder`, or any `Model`.
      widths: the number of channels of each of the backbone's maps.
      filters: the number of channels of all p and of y.
      finest: the number of the map at which y is; the finer ones are left out.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps images to y, `[n, rows, columns, filters]`,
      which is a body for `metajax.models.centre_head`.

    Raises:
      InputError: for a number out of range, or when the backbone returns other maps.

    >>> from metajax.models import resnet12_maps
    >>> body = feature_pyramid(resnet12_maps((4, 4, 8, 8)), (4, 4, 8, 8), 6, finest=1)
    >>> body.apply(body.init(jax.random.key(0)), jnp.zeros((2, 32, 48, 3))).shape
    (2, 8, 12, 6)

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
    """
    check_model(backbone)
    check_count("finest", finest, least=0, most=len(widths) - 1)
    return headed(backbone, _top_down(widths, filters, finest, dtype))


def _top_down(
    widths: Sequence[int], filters: int, finest: int, dtype: jnp.dtype | type
) -> Model:
    """From maps to the finest map of the pyramid."""
    laterals = [convolution(1, w, filters, dtype=dtype) for w in widths[finest:]]
    layers = [*laterals, convolution(3, filters, filters, dtype=dtype)]

    def apply(params: Params, inputs: PyTree) -> Array:
        maps, _ = unpadded(inputs)
        if not isinstance(maps, Sequence) or len(maps) != len(widths):
            kind = len(maps) if isinstance(maps, Sequence) else type(maps).__name__
            raise InputError(
                f"feature_pyramid was built for a backbone of {len(widths)} maps, the "
                f"finest first, got {kind}; give it the width of each of them"
            )
        *sides, last = (
            layer.apply(weights, x)
            for layer, weights, x in zip(laterals, params, maps[finest:])
        )
        for side in reversed(sides):
            last = side + _enlarged(last, side.shape[1:3])
        return layers[-1].apply(params[-1], last)

    return Model(partial(init_each, layers), apply)


def _enlarged(x: Array, size: tuple[int, ...]) -> Array:
    """Each place four times; along an odd size, the last one again if need be."""
    if any(n not in (m // 2, (m + 1) // 2) for n, m in zip(x.shape[1:3], size)):
        raise InputError(
            "feature_pyramid needs maps each of which has half the rows and columns of "
            f"the one before, got {size} and then {x.shape[1:3]}"
        )
    x = upsampled(x)
    for axis, length in enumerate(size, start=1):
        last = jax.lax.slice_in_dim(x, -1, None, axis=axis)
        x = jax.lax.slice_in_dim(jnp.concatenate([x, last], axis), 0, length, axis=axis)
    return x
