"""SNAIL's network, read piece by piece."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from metajax.models.causal import Causal, attend, counted, no_past
from metajax.models.snail import (
    SIZES,
    attends,
    convolutions,
    convolved,
    reader,
)
from metajax.models.tokens import each
from metajax.ops.precision import dtype_of
from metajax.types import Array, Params, PyTree


class Layer(NamedTuple):
    """A block of the network.

    Attributes:
      start: `start(dtype) -> past`.
      apply: `apply(params, past, count, x) -> (x, past)`.
    """

    start: Callable[[Any], PyTree]
    apply: Callable[[Params, PyTree, Array, Array], tuple[Array, PyTree]]


def causal_snail(
    features: int,
    length: int,
    *,
    filters: int = 128,
    attention: Sequence[tuple[int, int]] = SIZES,
    dtype: jnp.dtype | type = jnp.float32,
) -> Causal:
    """The body of `snail_network`, whose attention reaches back over `length` tokens.

    Args:
      features: the number of features of a token.
      length: the number of tokens that each block of attention, and of convolutions,
        reaches back over; a sequence may have more.
      filters: the number of features of each convolution.
      attention: the numbers of features of the keys and of the values, of each block of
        attention.
      dtype: the type of the parameters.

    Returns:
      A `Causal` network with the parameters of `snail_network`'s body.

    Raises:
      InputError: for a number below 1, or if `attention` is not of pairs.

    >>> network = causal_snail(3, length=10, filters=4, attention=[(4, 2), (4, 2)])
    >>> network.width
    23
    """
    body = reader(features, length, filters=filters, attention=attention, dtype=dtype)
    layers: list[Layer] = []
    width = features
    for i, (keys, values) in enumerate(attention):
        if i > 0:
            layers.append(_convolutions(width, length, filters))
            width += convolutions(width, length, filters).added
        layers.append(_attention(length, keys, values))
        width += attends(width, keys, values).added

    def start(params: Params) -> PyTree:
        dtype = dtype_of(params)
        return jnp.zeros((), jnp.int32), [layer.start(dtype) for layer in layers]

    def apply(params: Params, memory: PyTree, x: Array) -> tuple[Array, PyTree]:
        count, before = memory
        kept, after = [], counted(count, x, length)
        for layer, weights, past in zip(layers, params, before):
            x, past = layer.apply(weights, past, count, x)
            kept.append(past)
        return x, (after, kept)

    return Causal(body.init, start, apply, body.width)


def _attention(length: int, keys: int, values: int) -> Layer:
    def start(dtype: Any) -> PyTree:
        return no_past(length, 1, keys, values, dtype)

    def apply(params: Params, past: PyTree, count: Array, x: Array):
        tokens = [each(params[n], x)[:, None] for n in ("query", "key", "value")]
        taken, past = attend(tokens, past, count)
        return jnp.concatenate([x, taken[:, 0]], 1), past

    return Layer(start, apply)


def _convolutions(width: int, length: int, filters: int) -> Layer:
    distances = [2**i for i in range((length - 1).bit_length())]

    def start(dtype: Any) -> PyTree:
        widths = (width + i * filters for i in range(len(distances)))
        return [jnp.zeros((d, w), dtype) for d, w in zip(distances, widths)]

    def apply(params: Params, past: PyTree, count: Array, x: Array):
        kept = []
        for weights, before in zip(params, past):
            joined = jnp.concatenate([before, x])
            kept.append(joined[len(x) :])
            x = convolved(weights, joined[: len(x)], x)
        return x, kept

    return Layer(start, apply)
