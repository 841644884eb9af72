"""Convolution that stays fast when every task has its own kernel.

After one inner step, a vmapped convolution becomes a grouped one, both derivatives of
which are slow; inside any loop, XLA's CPU backend is slow at the kernel's gradient.
Here each map takes the form that is fast on its backend (`metajax.ops.forms`), to any
order and in both modes.
"""

import operator
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.ops.bilinear import Rule, Shapes, bilinear
from metajax.ops.correlation import product
from metajax.ops.geometry import Geometry, Precision
from metajax.ops.precision import matmul_precision
from metajax.types import Array

Padding = str | Sequence[tuple[int, int]]
NAMED_PADDING = ("SAME", "SAME_LOWER", "VALID")
Pads = tuple[int, int]


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    precision: Precision = None,
) -> Array:
    """Two-dimensional cross-correlation.

      y[n, p, q, o] = Σ_{i,j,c} x[n, s p + d i - top, s q + d j - left, c] k[i, j, c, o]

    Args:
      x: images, `float[n, height, width, channels]`.
      kernel: `float[kh, kw, channels, features]`.
      stride: s, one for both axes or one each.
      padding: "SAME", "SAME_LOWER" or "VALID" as in `jax.lax`, or ((top, bottom),
        (left, right)).
      dilation: d of the kernel, one for both axes or one each.
      precision: precision of the products, as in `jax.lax`; by default JAX's setting,
        or "highest" if it has none.

    Returns:
      `float[n, rows, columns, features]`.

    Raises:
      InputError: if shapes or dtypes are not as above.

    >>> conv2d(jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 8)), stride=2).shape
    (2, 3, 3, 8)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise InputError(
            "conv2d takes images [n, height, width, channels] and a kernel [kh, kw, "
            f"channels, features], got {x.shape} and {kernel.shape}"
        )
    stride, dilation = _pair("stride", stride), _pair("dilation", dilation)
    geometry = Geometry(
        image=x.shape[1:],
        kernel=kernel.shape,
        padding=((0, 0), (0, 0)),
        stride=stride,
        dilation=dilation,
        # Read now: the product is traced later, outside the caller's context.
        precision=matmul_precision() if precision is None else precision,
    )
    geometry = geometry._replace(padding=_pads(geometry, padding))
    if min(geometry.rows, geometry.columns) < 1:
        raise InputError(
            f"the kernel's window {geometry.window} does not fit in images of "
            f"{x.shape[1]}x{x.shape[2]} with padding {geometry.padding}"
        )
    result = geometry.rows, geometry.columns, geometry.kernel[3]
    shapes = Shapes(geometry.image, result, geometry.kernel)
    return bilinear(Rule(product, geometry, shapes), x, kernel)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    *,
    precision: Precision = None,
    **settings,
) -> Array:
    """`jax.lax.conv_general_dilated`, which uses `conv2d` where that is possible.

    With `conv_general_dilated=metajax.ops.conv_general_dilated`, Flax's `nn.Conv` is
    fast in an inner loop, both of Linen and of NNX. Only plain two-dimensional
    convolutions of channels-last images use `conv2d`; `jax.lax` computes all others.
    Inside your own `jax.shard_map` it needs `check_vma=False`, as the gradient of
    replicated parameters does anyway.

    Args:
      lhs: images.
      rhs: the kernel.
      window_strides: as in `jax.lax.conv_general_dilated`.
      padding: as in `jax.lax.conv_general_dilated`.
      lhs_dilation: as in `jax.lax.conv_general_dilated`.
      rhs_dilation: as in `jax.lax.conv_general_dilated`.
      dimension_numbers: as in `jax.lax.conv_general_dilated`.
      feature_group_count: as in `jax.lax.conv_general_dilated`.
      precision: see `conv2d`, also for the default.
      **settings: further settings of `jax.lax.conv_general_dilated`; if one is not the
        default, `jax.lax` computes the convolution.

    Returns:
      What `jax.lax.conv_general_dilated` returns at that precision.

    >>> import flax.linen as nn
    >>> net = nn.Conv(8, (3, 3), conv_general_dilated=conv_general_dilated)
    >>> net.init_with_output(jax.random.key(0), jnp.ones((2, 5, 5, 3)))[0].shape
    (2, 5, 5, 8)
    """
    ours = (
        _is_channels_last(lhs, rhs, dimension_numbers)
        and _is_plain(lhs, rhs, padding)
        and feature_group_count == 1
        and set(lhs_dilation or (1,)) == {1}
        and _has_no_effect(settings)
    )
    if ours:
        stride, dilation = tuple(window_strides), tuple(rhs_dilation or (1, 1))
        plain = partial(conv2d, padding=padding, precision=precision)
        return plain(lhs, rhs, stride=stride, dilation=dilation)
    where = window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers
    return jax.lax.conv_general_dilated(
        lhs, rhs, *where, feature_group_count, precision=precision, **settings
    )


def _is_channels_last(images: Array, kernel: Array, dimension_numbers: Any) -> bool:
    """Whether the axes are those of `conv2d`, in any notation."""
    if images.ndim != 4:
        return False
    axes = partial(jax.lax.conv_dimension_numbers, images.shape, kernel.shape)
    return axes(dimension_numbers) == axes(("NHWC", "HWIO", "NHWC"))


def _is_plain(images: Array, kernel: Array, padding: Padding) -> bool:
    """Whether `conv2d` takes these dtypes and this padding."""
    floating = jnp.issubdtype(images.dtype, jnp.floating)
    kept = isinstance(padding, str) or min(map(min, padding)) >= 0
    return images.dtype == kernel.dtype and floating and kept


def _has_no_effect(settings: Mapping[str, Any]) -> bool:
    """Whether the further settings of `jax.lax` are all at their defaults."""
    return all(
        value is None or (name == "batch_group_count" and value == 1)
        for name, value in settings.items()
    )


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    pair = value if isinstance(value, Sequence) else (value, value)
    whole = all(hasattr(v, "__index__") and v >= 1 for v in pair)
    if len(pair) != 2 or not whole:
        raise InputError(
            f"{name} must be a whole number of at least 1, or two, got {value!r}"
        )
    return operator.index(pair[0]), operator.index(pair[1])


def _pads(geometry: Geometry, padding: Padding) -> tuple[Pads, Pads]:
    if isinstance(padding, str) and padding in NAMED_PADDING:
        rows, columns = jax.lax.padtype_to_pads(
            geometry.image[:2], geometry.window, geometry.stride, padding
        )
        return rows, columns
    pairs = isinstance(padding, Sequence) and [(2,), (2,)] == list(
        map(np.shape, padding)
    )
    whole = pairs and np.asarray(padding).dtype.kind == "i"
    if not whole or np.min(padding) < 0:
        raise InputError(
            f"padding must be one of {', '.join(NAMED_PADDING)} or ((top, bottom), "
            f"(left, right)), none negative, got {padding!r}"
        )
    (top, bottom), (left, right) = np.asarray(padding).tolist()
    return (top, bottom), (left, right)
