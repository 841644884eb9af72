"""Convolution that stays fast when every task has a kernel of its own.

After one inner step a vmapped convolution turns into a grouped one, slow in both
derivatives; inside any loop XLA's CPU backend takes a slow form of the kernel's
gradient. Here all are matrix products (`metajax.ops.correlation`), in any order and
mode.
"""

import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops.bilinear import Rule, bilinear
from metajax.ops.correlation import Geometry, product
from metajax.ops.precision import matmul_precision
from metajax.types import Array

Padding = str | Sequence[tuple[int, int]]


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
    dilation: int | tuple[int, int] = 1,
) -> Array:
    """Two-dimensional cross-correlation.

      y[n, p, q, o] = Σ_{i,j,c} x[n, s p + d i - top, s q + d j - left, c] k[i, j, c, o]

    Args:
      x: images, `float[n, height, width, channels]`.
      kernel: `float[kh, kw, channels, features]`.
      stride: s, of both axes or of each.
      padding: "SAME" or "VALID" as TensorFlow has them, or ((top, bottom), (left,
        right)).
      dilation: d, of the kernel.

    Returns:
      `float[n, rows, columns, features]`.

    Raises:
      InputError: if shapes or dtypes are not of this form.

    >>> conv2d(jnp.ones((2, 5, 5, 3)), jnp.ones((3, 3, 3, 8)), stride=2).shape
    (2, 3, 3, 8)
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise InputError(
            "conv2d takes images [n, height, width, channels] and a kernel [kh, kw, "
            f"channels, features], got {x.shape} and {kernel.shape}"
        )
    (sp, sq), (dp, dq) = (_pair(value) for value in (stride, dilation))
    if min(sp, sq, dp, dq) < 1:
        raise InputError(
            f"stride and dilation must be at least 1, got {stride} and {dilation}"
        )
    kh, kw = kernel.shape[:2]
    window = (dp * (kh - 1) + 1, dq * (kw - 1) + 1)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], window, (sp, sq), padding)
    (top, bottom), (left, right) = padding
    geometry = Geometry(
        x.shape[1:],
        kernel.shape,
        ((top, bottom), (left, right)),
        (sp, sq),
        (dp, dq),
        window,
        # Read here, since the product is traced where the caller's context is gone.
        matmul_precision(),
    )
    if min(top, bottom, left, right) < 0:
        raise InputError(f"padding must not be negative, got {padding}")
    if min(geometry.rows, geometry.columns) < 1:
        raise InputError(
            f"the kernel's window {window} does not fit in images of "
            f"{x.shape[1]}x{x.shape[2]} with padding {tuple(padding)}"
        )
    return bilinear(Rule(product, geometry), x, kernel)


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    **settings,
) -> Array:
    """`jax.lax.conv_general_dilated`, by `conv2d` where that has the form.

    For a module of Flax: `nn.Conv(..., conv_general_dilated=metajax.ops.
    conv_general_dilated)`, or the same in NNX, makes its convolution fast in an inner
    loop. What is not a plain two-dimensional convolution of channels-last images goes
    to `jax.lax` unchanged. Inside a `jax.shard_map` of your own, the gradient needs
    `check_vma=False`, as the gradient of replicated parameters does anyhow.

    Args:
      lhs: images.
      rhs: the kernel.
      window_strides: see `jax.lax.conv_general_dilated`, as for the rest.
      padding: see there.
      lhs_dilation: see there.
      rhs_dilation: see there.
      dimension_numbers: see there.
      feature_group_count: see there.
      **settings: see there; with any that is not None, `jax.lax` is used.

    Returns:
      What `jax.lax.conv_general_dilated` returns.

    >>> import flax.linen as nn
    >>> net = nn.Conv(8, (3, 3), conv_general_dilated=conv_general_dilated)
    >>> net.init_with_output(jax.random.key(0), jnp.ones((2, 5, 5, 3)))[0].shape
    (2, 5, 5, 8)
    """
    channels_last = (
        jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
        if lhs.ndim == 4
        else None
    )
    ours = (
        lhs.ndim == 4
        and jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
        == channels_last
        and feature_group_count == 1
        and set(lhs_dilation or (1,)) == {1}
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and (isinstance(padding, str) or min(map(min, padding)) >= 0)
        and not any(
            value is not None and (name, value) != ("batch_group_count", 1)
            for name, value in settings.items()
        )
    )
    if not ours:
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            **settings,
        )
    return conv2d(
        lhs,
        rhs,
        stride=_pair(window_strides),
        padding=padding,
        dilation=_pair(rhs_dilation or 1),
    )


def _pair(value) -> tuple[int, int]:
    rows, columns = value if isinstance(value, Sequence) else (value, value)
    return operator.index(rows), operator.index(columns)
