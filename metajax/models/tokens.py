"""Sequences of tokens, some of which may be padding."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from metajax.errors import InputError
from metajax.ops import linear
from metajax.types import Array, Params, PyTree, unpadded


class Tokens(NamedTuple):
    """Sequences of which some tokens are padding, which nothing attends to.

    Attributes:
      values: `float[n, tokens, features]`.
      present: `bool[n, tokens]`, False for padding; True for every last token.
    """

    values: Array
    present: Array


def each(weights: Params, x: Array) -> Array:
    """A linear layer of each token."""
    bias = weights["bias"]
    flat = linear(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), weights["kernel"])
    return (flat + bias[None]).reshape(*x.shape[:-1], len(bias))


def sequences(
    inputs: PyTree, features: int, length: int | None = None
) -> tuple[Array, Array | None]:
    """The tokens, and which of them are present; None for all.

    Args:
      inputs: `[n, tokens, features]`, or `Tokens`.
      features: the number of features of a token.
      length: the number of tokens of a sequence; None for any.

    Returns:
      `float[n, tokens, features]`, and `bool[n, tokens]` or None.

    Raises:
      InputError: if the inputs have other shapes.
    """
    x, _ = unpadded(inputs)
    values, present = x if isinstance(x, Tokens) else (x, None)
    shape = jnp.shape(values)
    if len(shape) != 3 or shape[2] != features or length not in (None, shape[1]):
        raise InputError(
            f"this network takes sequences [n, {length or 'tokens'}, {features}], got "
            f"{shape}; build it for that number of features and of tokens"
        )
    if not shape[1]:
        raise InputError("this network takes sequences of at least one token, got none")
    return values, present
