"""The precision of products and sums; float32 keeps all its bits by default."""

import jax
import jax.numpy as jnp

from metajax.types import Array, PyTree


def matmul_precision() -> str:
    """JAX's current setting, or "highest" if there is none.

    By default JAX would round float32 factors to ten bits on a recent GPU and to seven
    on a TPU.

    >>> with jax.default_matmul_precision("tensorfloat32"):
    ...     matmul_precision()
    'tensorfloat32'
    """
    setting = jax.config.jax_default_matmul_precision  # pyright: ignore
    return setting or "highest"


def product(a: Array, b: Array) -> Array:
    """A matrix product in the full precision of its factors."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def wider(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype for sums of `dtype`, which is at least float32 for floats.

    >>> wider(jnp.dtype(jnp.bfloat16)), wider(jnp.dtype(jnp.float32))
    (dtype('float32'), dtype('float32'))
    """
    narrow = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return jnp.dtype(jnp.float32) if narrow else dtype


def dtype_of(params: PyTree) -> jnp.dtype:
    """The dtype of the first parameter that is a float; float32 if there is none.

    >>> dtype_of({"bias": jnp.zeros(3, jnp.bfloat16), "steps": 7})
    dtype(bfloat16)
    """
    leaves = (jnp.result_type(leaf) for leaf in jax.tree.leaves(params))
    floats = (dtype for dtype in leaves if jnp.issubdtype(dtype, jnp.floating))
    return next(floats, jnp.dtype(jnp.float32))
