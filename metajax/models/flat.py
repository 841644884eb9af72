"""The features of each example in a row."""

import math

import jax.numpy as jnp

from metajax.errors import InputError
from metajax.types import Array, PyTree, unpadded


def rows(features: Array) -> Array:
    """The features of each example in a row, `float[n, features]`.

    >>> rows(jnp.ones((7, 2, 6))).shape
    (7, 12)
    """
    return features.reshape(len(features), math.prod(features.shape[1:]))


def flat_features(features: PyTree, count: int, layer: str) -> Array:
    """The features of each example in a row.

    Args:
      features: `float[n, ...]`, or `Padded` of them.
      count: the number of features that the layer was built for.
      layer: its name, for the error.

    Returns:
      `float[n, count]`.

    Raises:
      InputError: if there are other features.

    >>> flat_features(jnp.ones((7, 2, 6)), 12, "linear layer").shape
    (7, 12)
    """
    x, _ = unpadded(features)
    shape = jnp.shape(x)
    if not shape or math.prod(shape[1:]) != count:
        raise InputError(
            f"this {layer} was built for {count} features an example, got inputs of "
            f"shape {shape}; build it for that many"
        )
    return rows(x)
