"""The logit of a class that must not be chosen."""

from typing import Any

import jax.numpy as jnp

from metajax.types import Array


def never(dtype: Any) -> Array:
    """A logit whose softmax is zero; it is finite, since 0 times infinity is NaN.

    Args:
      dtype: the floating dtype of the logits.

    Returns:
      A scalar.

    >>> import jax
    >>> jax.nn.softmax(jnp.array([0.0, never(jnp.float32)])).tolist()
    [1.0, 0.0]
    """
    return jnp.asarray(jnp.finfo(dtype).min / 2, dtype)
