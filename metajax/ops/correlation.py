"""The forms of a convolution and of its transposes."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from metajax.ops import winograd
from metajax.ops.bilinear import Product
from metajax.ops.forms import FORMS, Backend, Form, choose, dense, tiled
from metajax.ops.geometry import Geometry, Sizes
from metajax.ops.padding import padded
from metajax.ops.precision import wider
from metajax.types import Array

# The axes of examples and places, in images and in results.
EXAMPLES = (0, 1, 2), (0, 1, 2)
# XLA's names for the axes.
AXES = ("NHWC", "HWIO", "NHWC")


@functools.lru_cache
def product(geometry: Geometry, backend: Backend, form: str | None = None) -> Product:
    """A convolution in the forms of a backend.

    Args:
      geometry: its shapes.
      backend: the backend, see `metajax.ops.forms`.
      form: the form of the map that is run; by default the table's.

    Returns:
      The `Product`.
    """

    def make_map(name: str):
        return functools.partial(_by_choice, name, backend, geometry, form)

    entries = geometry.rows * geometry.columns * math.prod(geometry.kernel[:3])
    return Product(
        *map(make_map, ("y", "x", "w")),
        bytes=4 * entries,
        operation="convolution",
        sizes=lambda examples: Sizes(geometry, examples),
    )


def _by_choice(
    name: str,
    backend: Backend,
    geometry: Geometry,
    form: str | None,
    a: Array,
    b: Array,
) -> Array:
    operation = f"convolution {name}"
    form = form or choose(operation, backend, Sizes(geometry, len(a)), a.dtype)
    return FORMS[operation][form].run(geometry, a, b)


def _rows(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Gathers columns before the product and sums rows after it, at stride 1."""
    kh, kw, channels, features = geometry.kernel
    columns = _columns(geometry, x)
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(kw * channels, kh * features)
    parts = jnp.split(_multiply(geometry, columns, kernel), kh, axis=3)
    rows = (_row_of(geometry, part, i) for i, part in enumerate(parts))
    return functools.reduce(jnp.add, rows).astype(x.dtype)


def _row_of(geometry: Geometry, x: Array, i: int) -> Array:
    """The image rows that row `i` of the kernel meets, at stride 1."""
    first = geometry.dilation[0] * i - geometry.padding[0][0]
    return padded(x, 1, -first, geometry.rows + first)


def _patches(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """Computes one product over patches of the whole window."""
    patches = _all_patches(geometry, x)
    product = _multiply(geometry, patches, kernel.reshape(-1, geometry.kernel[3]))
    return product.astype(x.dtype)


def _lax_patches(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """`_patches`, gathered by XLA's own convolution."""
    patches = _gathered(geometry, x)
    entries = jnp.moveaxis(kernel, 2, 0).reshape(-1, kernel.shape[3])
    return _multiply(geometry, patches, entries).astype(x.dtype)


def _patches_transposed(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at any stride, a sum of overlapping patches."""
    patches = _multiply(geometry, y, kernel.reshape(-1, geometry.kernel[3]).T)
    like = jax.ShapeDtypeStruct((y.shape[0], *geometry.image), patches.dtype)
    gather = functools.partial(_all_patches, geometry)
    return jax.linear_transpose(gather, like)(patches)[0].astype(y.dtype)


def _turned(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at stride 1, a convolution by the flipped kernel."""
    return _by_choice("y", "cpu", geometry.transpose(), None, y, _flipped(kernel))


def _flipped(kernel: Array) -> Array:
    return jnp.swapaxes(kernel[::-1, ::-1], 2, 3)


# XLA transposes the first factor of a product over examples in memory, so the smaller
# factor comes first in the next three functions.


def _kernel_turned(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent by patches that are gathered already transposed."""
    patches = [jnp.moveaxis(part, 3, 0) for part in _patch_rows(geometry, x)]
    patches = jnp.stack(patches).reshape(math.prod(geometry.kernel[:3]), -1)
    product = _multiply(geometry, patches, y.reshape(-1, geometry.kernel[3]))
    return product.reshape(geometry.kernel).astype(x.dtype)


def _kernel_of_y(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent at stride 1, by images and patches of y."""
    kh, kw, channels, features = geometry.kernel
    patches = _all_patches(geometry.transpose(), y)
    product = _multiply(geometry, x, patches, over=EXAMPLES)
    product = product.reshape(channels, kh, kw, features)[:, ::-1, ::-1]
    return jnp.moveaxis(product, 0, 2).astype(x.dtype)


def _kernel_of_x(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent at any stride; patches of y could be mostly zeros."""
    kh, kw, channels, _ = geometry.kernel
    # XLA would transpose a result of two axes, and then the patches come first.
    patches = _all_patches(geometry, x).reshape(*y.shape[:3], kh, kw * channels)
    product = _multiply(geometry, y, patches, over=EXAMPLES)
    return jnp.moveaxis(product, 0, 2).reshape(geometry.kernel).astype(x.dtype)


def _kernel_of_lax_patches(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent by XLA's own patches, without a copy on a TPU."""
    kh, kw, channels, features = geometry.kernel
    product = _multiply(geometry, y, _gathered(geometry, x), over=EXAMPLES)
    product = product.reshape(features, channels, kh, kw)
    return jnp.transpose(product, (2, 3, 1, 0)).astype(x.dtype)


def _kernel_by_image(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent by a product per image; a GPU would pad a larger one."""
    n, _, _, features = y.shape
    patches = _all_patches(geometry, x).reshape(n, -1, math.prod(geometry.kernel[:3]))
    each = lax.dot_general(
        patches,
        y.reshape(n, -1, features),
        (((1,), (1,)), ((0,), (0,))),
        precision=geometry.precision,
        preferred_element_type=wider(x.dtype),
    )
    return each.sum(0).reshape(geometry.kernel).astype(x.dtype)


def _lax(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=AXES,
        precision=geometry.precision,
    )


def _laid_out(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """XLA's own convolution of a kernel with features last in memory.

    If the flipped kernel is also used, XLA for TPUs would choose a layout for one of
    the two, which costs the other more than a copy.
    """
    kernel = with_layout_constraint(kernel, Layout(major_to_minor=(0, 1, 2, 3)))
    # Without the barrier, XLA would flip it inside the convolution.
    return _lax(geometry, x, lax.optimization_barrier(kernel))


def _laid_out_turned(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at stride 1 by `_laid_out`."""
    return _laid_out(geometry.transpose(), y, _flipped(kernel))


def _lax_images(geometry: Geometry, y: Array, kernel: Array) -> Array:
    like = jax.ShapeDtypeStruct((y.shape[0], *geometry.image), y.dtype)
    return jax.linear_transpose(lambda x: _lax(geometry, x, kernel), like)(y)[0]


def _lax_kernel(geometry: Geometry, x: Array, y: Array) -> Array:
    like = jax.ShapeDtypeStruct(geometry.kernel, y.dtype)
    return jax.linear_transpose(lambda kernel: _lax(geometry, x, kernel), like)(y)[0]


FORMS["convolution y"] = {
    "patches": Form(_patches),
    "lax patches": Form(_lax_patches),
    "rows": Form(_rows, dense),
    "winograd": Form(winograd.correlate, tiled),
    "lax": Form(_lax),
    "lax laid out": Form(_laid_out),
}
FORMS["convolution x"] = {
    "patches": Form(_patches_transposed),
    "turned": Form(_turned, dense),
    "lax": Form(_lax_images),
    "lax laid out": Form(_laid_out_turned, dense),
}
FORMS["convolution w"] = {
    "patches turned": Form(_kernel_turned),
    "patches of x": Form(_kernel_of_x),
    "patches of y": Form(_kernel_of_y, dense),
    "patches by image": Form(_kernel_by_image),
    "lax patches": Form(_kernel_of_lax_patches),
    "winograd": Form(winograd.kernel, tiled),
    "lax": Form(_lax_kernel),
}


def _columns(geometry: Geometry, x: Array) -> Array:
    """The entries that a kernel row meets: `[n, height, columns, kw channels]`."""
    return jnp.concatenate(_shifted(geometry, x, 1), axis=3)


def _patch_rows(geometry: Geometry, x: Array) -> list[Array]:
    """The entries that each kernel row meets: `[n, rows, columns, kw channels]`."""
    return _shifted(geometry, _columns(geometry, x), 0)


def _all_patches(geometry: Geometry, x: Array) -> Array:
    """The entries that the kernel meets: `[n, rows, columns, kh kw channels]`."""
    return jnp.concatenate(_patch_rows(geometry, x), axis=3)


def _gathered(geometry: Geometry, x: Array) -> Array:
    """The entries that the kernel meets: `[n, rows, columns, channels kh kw]`."""
    return lax.conv_general_dilated_patches(
        x,
        geometry.kernel[:2],
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=AXES,
        precision=lax.Precision.HIGHEST,  # it must copy entries exactly
    )


def _shifted(geometry: Geometry, x: Array, axis: int) -> list[Array]:
    """The entries that each kernel row or column meets along an axis of the images."""
    along, (low, high) = axis + 1, geometry.padding[axis]
    x = padded(x, along, low, x.shape[along] + high)
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    reach = stride * ((geometry.rows, geometry.columns)[axis] - 1) + 1
    return [
        lax.slice_in_dim(x, dilation * i, dilation * i + reach, stride, along)
        for i in range(geometry.kernel[axis])
    ]


def _multiply(
    geometry: Geometry,
    a: Array,
    b: Array,
    over: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
) -> Array:
    """A product over axes, by default the matrix product; sums are in a wider type."""
    return lax.dot_general(
        a,
        b,
        (over or ((a.ndim - 1,), (0,)), ((), ())),
        precision=geometry.precision,
        preferred_element_type=wider(a.dtype),
    )
