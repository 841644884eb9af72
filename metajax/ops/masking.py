"""Classes that must not be chosen, by their logits."""

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


def expected_log(p: Array, log_q: Array) -> Array:
    """Σ_k p_k log q_k along the last axis, in which 0 times -∞ is 0.

    So a class whose logit is -∞ has no part in it.

    Args:
      p: probabilities, `float[..., classes]`.
      log_q: logarithms of others, or of the same.

    Returns:
      `float[...]`.

    >>> expected_log(jnp.array([1.0, 0.0]), jnp.array([-2.0, -jnp.inf])).item()
    -2.0
    """
    nothing = (p == 0) & jnp.isneginf(log_q)
    return jnp.sum(p * jnp.where(nothing, jnp.zeros_like(log_q), log_q), axis=-1)
