"""What stands in place of a logit that is not to be chosen."""

from typing import Any

import jax.numpy as jnp

from metajax.types import Array


def never(dtype: Any) -> Array:
    """A logit whose softmax is zero; not infinity, of which 0 times is NaN.

    >>> import jax
    >>> jax.nn.softmax(jnp.array([0.0, never(jnp.float32)])).tolist()
    [1.0, 0.0]
    """
    return jnp.asarray(jnp.finfo(dtype).min / 2, dtype)
