"""A dense layer's product that stays fast when every task has its own kernel."""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops.bilinear import Product, Rule, Shapes, bilinear
from metajax.ops.forms import FORMS, Backend, Form, choose
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Array


def linear(x: Array, kernel: Array) -> Array:
    """A matrix product.

      y[n, o] = Σ_i x[n, i] k[i, o]

    Args:
      x: `float[n, inputs]`.
      kernel: `float[inputs, outputs]`.

    Returns:
      `float[n, outputs]`.

    Raises:
      InputError: if shapes or dtypes are not as above.

    >>> linear(jnp.ones((5, 3)), jnp.ones((3, 2))).shape
    (5, 2)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if x.ndim != 2 or kernel.ndim != 2 or x.shape[1] != kernel.shape[0]:
        raise InputError(
            "linear takes examples [n, inputs] and a kernel [inputs, outputs], got "
            f"{x.shape} and {kernel.shape}"
        )
    # Read now: the product is traced later, outside the caller's context.
    size = _Size(x.shape[1], kernel.shape[1], matmul_precision())
    shapes = Shapes(x.shape[1:], kernel.shape[1:], kernel.shape)
    return bilinear(Rule(_product, size, shapes), x, kernel)


class _Size(NamedTuple):
    inputs: int
    outputs: int
    precision: str


@functools.lru_cache
def _product(size: _Size, backend: Backend, form: str | None = None) -> Product:
    def kernel(x: Array, y: Array) -> Array:
        name = form or choose("linear w", backend, len(x), x.dtype)
        return FORMS["linear w"][name].run(size, x, y)

    return Product(
        lambda x, kernel: _multiply(size, x, kernel),
        lambda y, kernel: _multiply(size, y, kernel.T),
        kernel,
        bytes=4 * (size.inputs + size.outputs),
        operation="linear",
        sizes=lambda examples: examples,
    )


def _multiply(size: _Size, a: Array, b: Array) -> Array:
    result = jnp.matmul(
        a, b, precision=size.precision, preferred_element_type=wider(a.dtype)
    )
    return result.astype(a.dtype)


def _outer(size: _Size, x: Array, y: Array) -> Array:
    """A sum of outer products, in one pass over the results of all tasks."""
    wide = (a.astype(wider(a.dtype)) for a in (x, y))
    each = (a[:, None] * b[None] for a, b in zip(*wide))
    return functools.reduce(jnp.add, each).astype(x.dtype)


def _countable(examples: int, dtype: jnp.dtype) -> bool:
    return examples <= 128  # the program has an operation for each


FORMS["linear w"] = {
    "outer": Form(_outer, _countable),
    "product": Form(lambda size, x, y: _multiply(size, x.T, y)),
}
