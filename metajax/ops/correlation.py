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
from metajax.ops.geometry import Geometry
from metajax.ops.padding import padded
from metajax.ops.precision import wider
from metajax.types import Array

# The axes of examples and places, of images and of results.
EXAMPLES = (0, 1, 2), (0, 1, 2)
# XLA's names of the axes.
AXES = ("NHWC", "HWIO", "NHWC")


@functools.lru_cache
def product(geometry: Geometry, backend: Backend, form: str | None = None) -> Product:
    """The convolution in the forms of a backend.

    Args:
      geometry: its shapes.
      backend: see `metajax.ops.forms`.
      form: the form of the map that is run, in place of the table's.

    Returns:
      The `Product`.
    """

    def map_of(name: str):
        return functools.partial(_by_choice, name, backend, geometry, form)

    entries = geometry.rows * geometry.columns * math.prod(geometry.kernel[:3])
    return Product(
        *map(map_of, ("y", "x", "w")),
        bytes=4 * entries,
        operation="convolution",
        sizes=lambda examples: geometry,
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
    form = form or choose(operation, backend, geometry, a.dtype)
    return FORMS[operation][form].run(geometry, a, b)


def _rows(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """At stride 1: columns are gathered before the product, rows summed after it."""
    kh, kw, channels, features = geometry.kernel
    columns = _columns(geometry, x)
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(kw * channels, kh * features)
    parts = jnp.split(_multiply(geometry, columns, kernel), kh, axis=3)
    rows = (_row_of(geometry, part, i) for i, part in enumerate(parts))
    return functools.reduce(jnp.add, rows).astype(x.dtype)


def _row_of(geometry: Geometry, x: Array, i: int) -> Array:
    """What row `i` of the kernel meets of the images, at stride 1."""
    first = geometry.dilation[0] * i - geometry.padding[0][0]
    return padded(x, 1, -first, geometry.rows + first)


def _patches(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """One product over patches of the whole window."""
    patches = _all_patches(geometry, x)
    product = _multiply(geometry, patches, kernel.reshape(-1, geometry.kernel[3]))
    return product.astype(x.dtype)


def _lax_patches(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """The same by patches that XLA's own convolution gathers."""
    patches = _gathered(geometry, x)
    entries = jnp.moveaxis(kernel, 2, 0).reshape(-1, kernel.shape[3])
    return _multiply(geometry, patches, entries).astype(x.dtype)


def _patches_transposed(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at any stride: patches that are added up where they lie."""
    patches = _multiply(geometry, y, kernel.reshape(-1, geometry.kernel[3]).T)
    like = jax.ShapeDtypeStruct((y.shape[0], *geometry.image), patches.dtype)
    gather = functools.partial(_all_patches, geometry)
    return jax.linear_transpose(gather, like)(patches)[0].astype(y.dtype)


def _turned(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at stride 1: a convolution by the kernel turned around."""
    return _by_choice("y", "cpu", geometry.transpose(), None, y, _turned_around(kernel))


def _turned_around(kernel: Array) -> Array:
    return jnp.swapaxes(kernel[::-1, ::-1], 2, 3)


# XLA turns the first factor of a product over examples around in memory, so the small
# one comes first in the three that follow.


def _kernel_turned(geometry: Geometry, x: Array, y: Array) -> Array:
    """The kernel's cotangent by shallow patches, made turned around."""
    patches = [jnp.moveaxis(part, 3, 0) for part in _patch_rows(geometry, x)]
    patches = jnp.stack(patches).reshape(math.prod(geometry.kernel[:3]), -1)
    product = _multiply(geometry, patches, y.reshape(-1, geometry.kernel[3]))
    return product.reshape(geometry.kernel).astype(x.dtype)


def _kernel_of_y(geometry: Geometry, x: Array, y: Array) -> Array:
    """The same at stride 1, by the images and patches of the cotangent."""
    kh, kw, channels, features = geometry.kernel
    patches = _all_patches(geometry.transpose(), y)
    product = _multiply(geometry, x, patches, over=EXAMPLES)
    product = product.reshape(channels, kh, kw, features)[:, ::-1, ::-1]
    return jnp.moveaxis(product, 0, 2).astype(x.dtype)


def _kernel_of_x(geometry: Geometry, x: Array, y: Array) -> Array:
    """The same at larger strides, where patches of y would be mostly zeros."""
    kh, kw, channels, _ = geometry.kernel
    # A result of two axes XLA would turn around, and so take the patches first.
    patches = _all_patches(geometry, x).reshape(*y.shape[:3], kh, kw * channels)
    product = _multiply(geometry, y, patches, over=EXAMPLES)
    return jnp.moveaxis(product, 0, 2).reshape(geometry.kernel).astype(x.dtype)


def _kernel_of_lax_patches(geometry: Geometry, x: Array, y: Array) -> Array:
    """By patches that XLA's own convolution gathers, without a copy on a TPU."""
    kh, kw, channels, features = geometry.kernel
    product = _multiply(geometry, y, _gathered(geometry, x), over=EXAMPLES)
    product = product.reshape(features, channels, kh, kw)
    return jnp.transpose(product, (2, 3, 1, 0)).astype(x.dtype)


def _kernel_by_image(geometry: Geometry, x: Array, y: Array) -> Array:
    """By a product for each image: a GPU would split and pad one over all of them."""
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
    """XLA's own, its kernel with features last in memory.

    Where the same kernel is used turned around too, XLA for TPUs would lay it out for
    one of the two, which makes the other slower than a copy of it is.
    """
    kernel = with_layout_constraint(kernel, Layout(major_to_minor=(0, 1, 2, 3)))
    # Without the barrier, XLA would read it turned around inside the convolution.
    return _lax(geometry, x, lax.optimization_barrier(kernel))


def _laid_out_turned(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """The images' cotangent at stride 1, likewise."""
    return _laid_out(geometry.transpose(), y, _turned_around(kernel))


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
    """What a row of the kernel meets: `[n, height, columns, kw channels]`."""
    return jnp.concatenate(_shifted(geometry, x, 1), axis=3)


def _patch_rows(geometry: Geometry, x: Array) -> list[Array]:
    """What each row of the kernel meets: `[n, rows, columns, kw channels]`."""
    return _shifted(geometry, _columns(geometry, x), 0)


def _all_patches(geometry: Geometry, x: Array) -> Array:
    """What the kernel meets: `[n, rows, columns, kh kw channels]`."""
    return jnp.concatenate(_patch_rows(geometry, x), axis=3)


def _gathered(geometry: Geometry, x: Array) -> Array:
    """What the kernel meets: `[n, rows, columns, channels kh kw]`."""
    return lax.conv_general_dilated_patches(
        x,
        geometry.kernel[:2],
        geometry.stride,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=AXES,
        precision=lax.Precision.HIGHEST,  # of a sum of one entry and zeros
    )


def _shifted(geometry: Geometry, x: Array, axis: int) -> list[Array]:
    """What each row, or column, of the kernel meets along that axis of the images."""
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
    """The product over axes of each, by default the matrix product, added up wide."""
    return lax.dot_general(
        a,
        b,
        (over or ((a.ndim - 1,), (0,)), ((), ())),
        precision=geometry.precision,
        preferred_element_type=wider(a.dtype),
    )
