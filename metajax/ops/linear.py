"""A dense layer's product that stays fast when every task has a kernel of its own."""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops.bilinear import Product, Rule, bilinear
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Array

# Up to so many examples, the kernel's cotangent is a sum of outer products: one pass
# over the results of all tasks, where XLA's CPU backend has a slow product for each.
FEW = 16


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
    shape = _Shape(x.shape[1], kernel.shape[1], matmul_precision())
    return bilinear(Rule(_product, shape), x, kernel)


class _Shape(NamedTuple):
    inputs: int
    outputs: int
    precision: str


@functools.lru_cache
def _product(shape: _Shape) -> Product:
    def multiply(a: Array, b: Array) -> Array:
        found = jnp.matmul(
            a, b, precision=shape.precision, preferred_element_type=wider(a.dtype)
        )
        return found.astype(a.dtype)

    def kernel(x: Array, y: Array) -> Array:
        if x.shape[0] > FEW:
            return multiply(x.T, y)
        wide = (a.astype(wider(a.dtype)) for a in (x, y))
        outer = (a[:, None] * b[None] for a, b in zip(*wide))
        return functools.reduce(jnp.add, outer).astype(x.dtype)

    return Product(
        multiply,
        lambda y, kernel: multiply(y, kernel.T),
        kernel,
        (shape.inputs,),
        (shape.outputs,),
        (shape.inputs, shape.outputs),
        bytes=4 * (shape.inputs + shape.outputs),
    )
