"""The arithmetic of products and sums: float32 is exact unless asked otherwise."""

import jax
import jax.numpy as jnp


def matmul_precision() -> str:
    """JAX's setting where this is called, or "highest" where there is none.

    JAX's own default would round float32 factors to ten bits on a recent GPU and to
    seven on a TPU.

    >>> with jax.default_matmul_precision("tensorfloat32"):
    ...     matmul_precision()
    'tensorfloat32'
    """
    setting = jax.config.jax_default_matmul_precision  # pyright: ignore
    return setting or "highest"


def wider(dtype: jnp.dtype) -> jnp.dtype:
    """The type to add up numbers of `dtype` in: at least float32, for floats.

    >>> wider(jnp.dtype(jnp.bfloat16)), wider(jnp.dtype(jnp.float32))
    (dtype('float32'), dtype('float32'))
    """
    narrow = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return jnp.dtype(jnp.float32) if narrow else dtype
