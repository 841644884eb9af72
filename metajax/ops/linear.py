"""A dense layer's product that stays fast when every task has a kernel of its own."""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops.bilinear import Product, Rule, Shapes, bilinear
from metajax.ops.forms import Backend, choose
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
      InputError: if shapes or dtypes are not of this form.

    >>> linear(jnp.ones((5, 3)), jnp.ones((3, 2))).shape
    (5, 2)
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if x.ndim != 2 or kernel.ndim != 2 or x.shape[1] != kernel.shape[0]:
        raise InputError(
            "linear takes examples [n, inputs] and a kernel [inputs, outputs], got "
            f"{x.shape} and {kernel.shape}"
        )
    # Read here, since the product is traced where the caller's context is gone.
    size = _Size(x.shape[1], kernel.shape[1], matmul_precision())
    shapes = Shapes(x.shape[1:], kernel.shape[1:], kernel.shape)
    return bilinear(Rule(_product, size, shapes), x, kernel)


class _Size(NamedTuple):
    inputs: int
    outputs: int
    precision: str


@functools.lru_cache
def _product(size: _Size, backend: Backend, form: str | None = None) -> Product:
    def multiply(a: Array, b: Array) -> Array:
        result = jnp.matmul(
            a, b, precision=size.precision, preferred_element_type=wider(a.dtype)
        )
        return result.astype(a.dtype)

    def outer(x: Array, y: Array) -> Array:
        """A sum of outer products: one pass over the results of all tasks."""
        wide = (a.astype(wider(a.dtype)) for a in (x, y))
        each = (a[:, None] * b[None] for a, b in zip(*wide))
        return functools.reduce(jnp.add, each).astype(x.dtype)

    def kernel(x: Array, y: Array) -> Array:
        chosen = form or choose("linear w", backend, len(x), x.dtype)
        return outer(x, y) if chosen == "outer" else multiply(x.T, y)

    return Product(
        multiply,
        lambda y, kernel: multiply(y, kernel.T),
        kernel,
        bytes=4 * (size.inputs + size.outputs),
        operation="linear",
        of=lambda examples: examples,
    )
