"""The sequence model of a Simple Neural Attentive Learner (SNAIL)."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.errors import InputError
from metajax.models.dense import dense
from metajax.models.headed import headed
from metajax.models.precision import exact_by_default
from metajax.models.several import init_each, init_named
from metajax.models.transformer import Tokens, each, sequences
from metajax.ops.masking import never
from metajax.ops.precision import wider
from metajax.types import Array, Model, Params, PyTree, check_count

SIZES = (64, 32), (256, 128), (512, 256)  # of the paper's keys and values


def snail_network(
    features: int,
    outputs: int,
    length: int,
    *,
    filters: int = 128,
    attention: Sequence[tuple[int, int]] = SIZES,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """Causal attention, and causal dilated convolutions between it.

      attention:    h_t ← [h_t, Σ_{s ≤ t} softmax_s(q_t·k_s / √d) v_s]
      convolutions: h_t ← [h_t, tanh(f_t) ∘ σ(g_t)],
                    [f_t, g_t] = [h_{t-d}, h_t] W + b,   d = 1, 2, 4, ... < `length`
      outputs = h_T W' + b'

    where [·, ·] joins features, and what comes before the first token is zero. A token
    sees itself and what is before it. Absent tokens are as if they had not been there:
    the others move together.

    Args:
      features: of a token.
      outputs: the number of outputs.
      length: the number of tokens that each block of convolutions reaches back over; a
        sequence may have more or fewer.
      filters: of each convolution.
      attention: the numbers of features d of the keys, and of the values, of each block
        of attention; a block of convolutions stands between two.
      dtype: of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, tokens, features]`, or `Tokens`, to
      `[n, outputs]`.

    Raises:
      InputError: for a number below 1, or if `attention` is not of pairs.

    >>> model = snail_network(3, 5, length=10, filters=4, attention=[(4, 2), (4, 2)])
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 10, 3))).shape
    (7, 5)

    Source: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018.
    """
    pairs = [isinstance(pair, tuple | list) and len(pair) == 2 for pair in attention]
    if not pairs or not all(pairs):
        raise InputError(
            "attention must have a (keys, values) for each block, and at least one "
            f"block, got {attention!r}"
        )
    parts, width = [], features
    for i, (keys, values) in enumerate(attention):
        if i > 0:
            parts.append(convolutions(width, length, filters, dtype=dtype))
            width += len(_dilations(length)) * filters
        parts.append(attends(width, keys, values, dtype=dtype))
        width += values
    tokens = in_turn(features, parts)

    def last(params: Params, inputs: PyTree) -> Array:
        return tokens.apply(params, inputs)[:, -1]

    body = exact_by_default(Model(tokens.init, last))
    return headed(body, dense(width, outputs, dtype=dtype))


def in_turn(features: int, parts: Sequence[Model]) -> Model:
    """Blocks of tokens one after another, from sequences to sequences.

    Args:
      features: of a token.
      parts: the blocks, each from `Tokens` to `float[n, tokens, ...]`.

    Returns:
      A `Model` of `[n, tokens, features]` or `Tokens`. Its tokens are those present, at
      the end.

    Raises:
      InputError: if `features` is below 1, or inputs are of other shapes.
    """
    check_count("features", features, least=1)

    def apply(params: Params, inputs: PyTree) -> Array:
        x, present = sequences(inputs, features)
        if present is None:
            present = jnp.ones(x.shape[:2], bool)
        else:
            x, present = _to_the_end(x, present)
        for i, (part, weights) in enumerate(zip(parts, params)):
            x = part.apply(weights, Tokens(x, present))
            x = checkpoint_name(x, f"block{i}")
        return x

    return Model(partial(init_each, parts), apply)


def attends(
    features: int, keys: int, values: int, *, dtype: jnp.dtype | type = jnp.float32
) -> Model:
    """A block of causal attention, which appends `values` features to each token.

    Args:
      features: of a token.
      keys: of a key, and of a query.
      values: of a value.
      dtype: of the parameters.

    Returns:
      A `Model` from `Tokens` to `float[n, tokens, features + values]`.

    Raises:
      InputError: for a number below 1.
    """
    sizes = {"query": keys, "key": keys, "value": values}
    layers = {name: dense(features, n, dtype=dtype) for name, n in sizes.items()}

    def apply(params: Params, tokens: Tokens) -> Array:
        x, present = tokens
        q, k, v = (each(params[name], x) for name in layers)
        wide = wider(x.dtype)
        scores = jnp.einsum("nqd,nkd->nqk", q, k, preferred_element_type=wide)
        before = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        seen = before[None] & present[:, None]
        scores = jnp.where(seen, scores / math.sqrt(keys), never(wide))
        shares = jax.nn.softmax(scores).astype(x.dtype)
        return jnp.concatenate([x, jnp.einsum("nqk,nkd->nqd", shares, v)], -1)

    return Model(partial(init_named, layers), apply)


def convolutions(
    features: int, length: int, filters: int, *, dtype: jnp.dtype | type = jnp.float32
) -> Model:
    """A block of dilated convolutions, each of which appends `filters` features.

    Args:
      features: of a token.
      length: the number of tokens that the last convolution reaches back over.
      filters: of each convolution.
      dtype: of the parameters.

    Returns:
      A `Model` from `Tokens`, those present at the end, to
      `float[n, tokens, features + ⌈log2 length⌉ filters]`.

    Raises:
      InputError: for a number below 1.
    """
    check_count("filters", filters, least=1)
    dilations = _dilations(length)
    widths = [features + i * filters for i in range(len(dilations))]
    layers = [dense(2 * width, 2 * filters, dtype=dtype) for width in widths]

    def apply(params: Params, tokens: Tokens) -> Array:
        x, present = tokens
        for dilation, weights in zip(dilations, params):
            # Absent tokens are before the first one, where all is zero.
            there = jnp.where(present[..., None], x, jnp.zeros_like(x))
            past = jnp.pad(there, ((0, 0), (dilation, 0), (0, 0)))[:, : x.shape[1]]
            f, g = jnp.split(each(weights, jnp.concatenate([past, x], -1)), 2, -1)
            x = jnp.concatenate([x, jnp.tanh(f) * jax.nn.sigmoid(g)], -1)
        return x

    return Model(partial(init_each, layers), apply)


def _dilations(length: int) -> list[int]:
    """1, 2, 4, ...: ⌈log2 length⌉ of them."""
    count = (check_count("length", length, least=1) - 1).bit_length()
    return [2**i for i in range(count)]


def _to_the_end(x: Array, present: Array) -> tuple[Array, Array]:
    """The tokens present moved together to the end, in their order."""
    order = jnp.argsort(present, axis=1, stable=True)
    moved = jnp.take_along_axis(x, order[..., None], 1)
    return moved, jnp.take_along_axis(present, order, 1)
