"""Networks that read a sequence piece by piece, and remember its last tokens."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.models.attention import layer_norm
from metajax.models.dense import dense
from metajax.models.tokens import each
from metajax.models.transformer import (
    init_block,
    init_norm,
    mlp_layer,
    project,
)
from metajax.ops.masking import never
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Array, Params, PyTree


class Causal(NamedTuple):
    """A network of ONE sequence, each of whose tokens sees itself and those before it.

    Attributes:
      init: `init(key) -> params`.
      start: `start(params) -> memory`, before the first token.
      apply: `apply(params, memory, x) -> (h, memory)`, of the tokens that come next,
        `float[tokens, features]`, with h `float[tokens, width]`. However a sequence is
        cut into such pieces, h is the same.
      width: the number of features of h.
    """

    init: Callable[[Array], Params]
    start: Callable[[Params], PyTree]
    apply: Callable[[Params, PyTree, Array], tuple[Array, PyTree]]
    width: int


class Past(NamedTuple):
    """Keys and values of the tokens before, the last one at the end.

    Attributes:
      keys: `float[length - 1, heads, d]`.
      values: `float[length - 1, heads, e]`.
    """

    keys: Array
    values: Array


def causal_transformer(
    features: int,
    length: int,
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    dtype: jnp.dtype | type = jnp.float32,
) -> Causal:
    """A pre-norm transformer whose tokens attend to themselves and the last ones.

      h_t = x_t W + c
      h_t ← h_t + Σ_{t-length < s ≤ t} softmax_s(q_t·k_s / √d + b_{t-s}) v_s,
      h_t ← h_t + mlp(norm(h_t))   (`depth` times),   then norm(h_t)

    with a learnt b for each head and distance, which is 0 at first.

    Args:
      features: the number of features of a token.
      length: how many tokens each layer attends to; a sequence may have more.
      width: the number of features of h.
      depth: the number of blocks.
      heads: the number of heads, each of `width / heads` features.
      dtype: the type of the parameters.

    Returns:
      A `Causal` network, whose blocks are those of `metajax.transformer`.

    Raises:
      InputError: for a depth below 0, another number below 1, or a width that is no
        multiple of the heads.

    >>> network = causal_transformer(3, length=10, width=16)
    >>> params = network.init(jax.random.key(0))
    >>> h, memory = network.apply(params, network.start(params), jnp.zeros((7, 3)))
    >>> h.shape
    (7, 16)

    Source: `metajax.transformer`'s; b is that of Raffel et al., "Exploring the Limits
    of Transfer Learning with a Unified Text-to-Text Transformer", JMLR 2020, section
    2.1, without its buckets.
    """
    check_count("depth", depth, least=0)
    check_count("heads", heads, least=1)
    check_count("length", length, least=1)
    if check_count("width", width, least=1) % heads:
        raise InputError(f"width must be a multiple of the {heads} heads, got {width}")
    init = partial(_init, features, length, width, depth, heads, dtype)
    start = partial(_start, length, heads, width // heads)
    return Causal(init, start, partial(_apply, length, heads), width)


def _init(
    features: int,
    length: int,
    width: int,
    depth: int,
    heads: int,
    dtype: jnp.dtype | type,
    key: Array,
) -> Params:
    first, *keys = jax.random.split(key, depth + 1)
    bias = {"distance": jnp.zeros((heads, length), dtype)}
    return {
        "embedding": dense(features, width, dtype=dtype).init(first),
        "blocks": [init_block(k, width, dtype) | bias for k in keys],
        "norm": init_norm(width, dtype),
    }


def _start(length: int, heads: int, size: int, params: Params) -> PyTree:
    dtype = params["embedding"]["kernel"].dtype
    past = no_past(length, heads, size, size, dtype)
    return jnp.zeros((), jnp.int32), [past for _ in params["blocks"]]


def _apply(length: int, heads: int, params: Params, memory: PyTree, x: Array):
    count, before = memory
    h, kept = each(params["embedding"], x), []
    for weights, past in zip(params["blocks"], before):
        own, bias = weights["attention"], weights["distance"]
        taken, past = attend(project(own, h, heads), past, count, bias)
        h = h + each(own["output"], taken.reshape(h.shape))
        h = h + mlp_layer(weights["mlp"], h)
        kept.append(past)
    return layer_norm(params["norm"], h), (counted(count, x, length), kept)


def no_past(length: int, heads: int, keys: int, values: int, dtype: Any) -> Past:
    """The `Past` of a first token."""
    empty = partial(jnp.zeros, dtype=dtype)
    return Past(*(empty((length - 1, heads, size)) for size in (keys, values)))


def counted(count: Array, x: Array, length: int) -> Array:
    """How many tokens a `Past` holds after the tokens x."""
    return jnp.minimum(count + len(x), length - 1).astype(count.dtype)


def attend(
    tokens: list[Array], past: Past, count: Array, bias: Array | None = None
) -> tuple[Array, Past]:
    """What tokens take from themselves and the last ones before them.

      Σ_{t-length < s ≤ t} softmax_s(q_t·k_s / √d + b_{t-s}) v_s

    Args:
      tokens: queries, keys and values, `float[tokens, heads, ...]`.
      past: of length - 1 tokens.
      count: how many of these there are.
      bias: b, `float[heads, length]`; 0 by default.

    Returns:
      `float[tokens, heads, e]`, and the `Past` of the next token.
    """
    q, *new = tokens
    keys, values = (jnp.concatenate(pair) for pair in zip(past, new))
    held = len(past.keys)
    place = jnp.arange(len(keys), dtype=jnp.int32)
    age = held + place[: len(q), None] - place[None]
    seen = (age >= 0) & (age <= held) & (place >= held - count)[None]
    wide = wider(q.dtype)
    product = partial(jnp.einsum, precision=matmul_precision())
    scores = product("qhd,khd->hqk", q, keys, preferred_element_type=wide)
    scores = scores / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias[:, jnp.clip(age, 0, held)].astype(wide)
    shares = jax.nn.softmax(jnp.where(seen[None], scores, never(wide)))
    taken = product("hqk,khe->qhe", shares.astype(q.dtype), values)
    return taken, Past(keys[len(q) :], values[len(q) :])
