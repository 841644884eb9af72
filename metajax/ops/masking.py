"""Classes that must not be chosen, by their logits."""

from typing import Any

import jax
import jax.numpy as jnp

from metajax.types import Array


def never(dtype: Any) -> Array:
    """A logit whose softmax is zero; it is finite, since 0 times infinity is NaN.

    Args:
      dtype: the floating dtype of the logits.

    Returns:
      A scalar.

    >>> jax.nn.softmax(jnp.array([0.0, never(jnp.float32)])).tolist()
    [1.0, 0.0]
    """
    return jnp.asarray(jnp.finfo(dtype).min / 2, dtype)


def expected_log(p: Array, logits: Array) -> Array:
    """Σ_k p_k log softmax(z)_k along the last axis, in which 0 times -∞ is 0.

    So a class whose logit is -∞ has no part in it.

    Args:
      p: probabilities, `float[..., classes]`.
      logits: z, of the same shape.

    Returns:
      `float[...]`.

    >>> expected_log(jnp.array([1.0, 0.0]), jnp.array([-2.0, -jnp.inf])).item()
    0.0
    """
    # By the logits: a mask of the logarithms would be kept for the way back.
    nothing = (p == 0) & jnp.isneginf(logits)
    log_q = jax.nn.log_softmax(logits)
    return jnp.sum(p * jnp.where(nothing, jnp.zeros_like(log_q), log_q), axis=-1)
