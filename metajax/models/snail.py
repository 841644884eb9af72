"""The sequence model of a Simple Neural Attentive Learner (SNAIL)."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.models.dense import dense
from metajax.models.headed import headed
from metajax.models.initialise import init_each, init_named
from metajax.models.tokens import each, sequences
from metajax.ops.masking import never
from metajax.ops.precision import matmul_precision, wider
from metajax.types import Array, Model, Params, PyTree

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
    """Blocks of causal attention, and of causal dilated convolutions between them.

      attention:    h_t ← [h_t, Σ_{s ≤ t} softmax_s(q_t·k_s / √d) v_s]
      convolutions: h_t ← [h_t, tanh(f_t) ∘ σ(g_t)],
                    [f_t, g_t] = [h_{t-d}, h_t] W + b,   d = 1, 2, 4, ... < `length`
      outputs = h_T W' + b'

    where [·, ·] joins features, and zeros come before the first token. A token sees
    itself and those before it; absent tokens are left out. The paper's listing has
    d = 2, 4, 8, ..., by which a token would not see the one before it.

    Args:
      features: the number of features of a token.
      outputs: the number of outputs.
      length: the number of tokens that each block of convolutions reaches back over; a
        sequence may have more or fewer.
      filters: the number of features of each convolution.
      attention: the numbers of features d of the keys and of the values, of each block
        of attention; there is a block of convolutions between two.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, tokens, features]`, or `Tokens`, to
      `[n, outputs]`.

    Raises:
      InputError: for a number below 1, or if `attention` is not of pairs.

    >>> model = snail_network(3, 5, length=10, filters=4, attention=[(4, 2), (4, 2)])
    >>> params = model.init(jax.random.key(0))
    >>> jax.jit(model.apply)(params, jnp.zeros((7, 10, 3))).shape
    (7, 5)

    Source: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018.
    """
    body = reader(features, length, filters=filters, attention=attention, dtype=dtype)

    def last(params: Params, inputs: PyTree) -> Array:
        x, present = sequences(inputs, features)
        there = None if present is None else present[:, :-1]
        kept = body.read(params, x[:, :-1], there)
        return body.ask(params, kept, x[:, -1:])[:, 0]

    return headed(Model(body.init, last), dense(body.width, outputs, dtype=dtype))


class Reader(NamedTuple):
    """A causal network that reads a context once, for all tokens that come next.

    Attributes:
      init: `init(key) -> params`.
      read: `read(params, x, present) -> kept`, what each block needs of the context x,
        `float[n, tokens, features]`; present is `bool[n, tokens]`, or None for all.
      ask: `ask(params, kept, x) -> float[n, m, width]`, of tokens x,
        `float[n, m, features]`, each as the only one after the context.
      width: the number of features that `ask` returns.
    """

    init: Callable[[Array], Params]
    read: Callable[[Params, Array, Array | None], PyTree]
    ask: Callable[[Params, PyTree, Array], Array]
    width: int


class Block(NamedTuple):
    """Layers of a `Reader`, which append features to tokens.

    Attributes:
      init: `init(key) -> params`.
      read: `read(params, x, present) -> (x, kept)`, the context's tokens with the
        appended features, and what tokens after them need.
      ask: `ask(params, kept, x) -> x`, of tokens each alone after the context.
      added: the number of appended features.
    """

    init: Callable[[Array], Params]
    read: Callable[[Params, Array, Array], tuple[Array, PyTree]]
    ask: Callable[[Params, PyTree, Array], Array]
    added: int


def reader(
    features: int,
    length: int,
    *,
    filters: int = 128,
    attention: Sequence[tuple[int, int]] = SIZES,
    dtype: jnp.dtype | type = jnp.float32,
) -> Reader:
    """The body of `snail_network`.

    Args:
      features: the number of features of a token.
      length: the number of tokens that each block of convolutions reaches back over.
      filters: the number of features of each convolution.
      attention: the numbers of features of the keys and of the values, of each block of
        attention.
      dtype: the type of the parameters.

    Returns:
      A `Reader`.

    Raises:
      InputError: for a number below 1, or if `attention` is not of pairs.
    """
    pairs = [isinstance(pair, tuple | list) and len(pair) == 2 for pair in attention]
    if not pairs or not all(pairs):
        raise InputError(
            "attention must have a (keys, values) for each block, and at least one "
            f"block, got {attention!r}"
        )
    width = check_count("features", features, least=1)
    blocks: list[Block] = []
    for i, (keys, values) in enumerate(attention):
        if i > 0:
            blocks.append(convolutions(width, length, filters, dtype=dtype))
            width += blocks[-1].added
        blocks.append(attends(width, keys, values, dtype=dtype))
        width += blocks[-1].added
    return sequential(blocks, width)


def sequential(blocks: Sequence[Block], width: int) -> Reader:
    """A `Reader` of blocks one after another, whose parameters are a list of theirs.

    Args:
      blocks: the blocks.
      width: the number of features after the last block.

    Returns:
      A `Reader`.
    """

    def read(params: Params, x: Array, present: Array | None) -> PyTree:
        if present is None:
            present = jnp.ones(x.shape[:2], bool)
        else:
            x, present = _to_the_end(x, present)
        kept = []
        for block, weights in zip(blocks, params):
            x, needed = block.read(weights, x, present)
            kept.append(needed)
        return kept

    def ask(params: Params, kept: PyTree, x: Array) -> Array:
        for i, (block, weights, needed) in enumerate(zip(blocks, params, kept)):
            x = checkpoint_name(block.ask(weights, needed, x), f"block{i}")
        return x

    return Reader(partial(init_each, blocks), read, ask, width)


def attends(
    features: int, keys: int, values: int, *, dtype: jnp.dtype | type = jnp.float32
) -> Block:
    """Causal attention, which appends `values` features to each token.

    Args:
      features: the number of features of a token.
      keys: the number of features of a key, and of a query.
      values: the number of features of a value.
      dtype: the type of the parameters.

    Returns:
      A `Block`.

    Raises:
      InputError: for a number below 1.
    """
    sizes = {"query": keys, "key": keys, "value": values}
    layers = {name: dense(features, n, dtype=dtype) for name, n in sizes.items()}

    def read(params: Params, x: Array, present: Array) -> tuple[Array, PyTree]:
        q, k, v = (each(params[name], x) for name in layers)
        before = jnp.tri(x.shape[1], k=-1, dtype=bool)
        taken = _taken(q, k, v, k, v, present[:, None] & before[None])
        # A learner's adapted tree holds numbers, and no bools.
        return jnp.concatenate([x, taken], -1), (k, v, present.astype(x.dtype))

    def ask(params: Params, kept: PyTree, x: Array) -> Array:
        q, k, v = (each(params[name], x) for name in layers)
        past_keys, past_values, present = kept
        taken = _taken(q, k, v, past_keys, past_values, present[:, None] > 0)
        return jnp.concatenate([x, taken], -1)

    return Block(partial(init_named, layers), read, ask, values)


def _taken(
    q: Array, k: Array, v: Array, keys: Array, values: Array, seen: Array
) -> Array:
    """Σ_s softmax_s(q·k_s / √d) v_s, over `seen` tokens and the token itself."""
    wide = wider(q.dtype)
    product = partial(jnp.einsum, precision=matmul_precision())
    score = partial(product, preferred_element_type=wide)
    others = jnp.where(seen, score("nqd,nkd->nqk", q, keys), never(wide))
    scores = jnp.concatenate([others, score("nqd,nqd->nq", q, k)[..., None]], -1)
    shares = jax.nn.softmax(scores / math.sqrt(q.shape[-1])).astype(q.dtype)
    return product("nqk,nkd->nqd", shares[..., :-1], values) + shares[..., -1:] * v


def convolutions(
    features: int, length: int, filters: int, *, dtype: jnp.dtype | type = jnp.float32
) -> Block:
    """Dilated convolutions, each of which appends `filters` features.

    Args:
      features: the number of features of a token.
      length: the number of tokens that the last convolution reaches back over.
      filters: the number of features of each convolution.
      dtype: the type of the parameters.

    Returns:
      A `Block` of ⌈log2 length⌉ convolutions.

    Raises:
      InputError: for a number below 1.
    """
    check_count("filters", filters, least=1)
    # The ⌈log2 length⌉ dilations 1, 2, 4, ...
    count = (check_count("length", length, least=1) - 1).bit_length()
    widths = [features + i * filters for i in range(count)]
    layers = [dense(2 * width, 2 * filters, dtype=dtype) for width in widths]

    def read(params: Params, x: Array, present: Array) -> tuple[Array, PyTree]:
        kept, tokens = [], x.shape[1]
        for i, weights in enumerate(params):
            # Absent tokens come before the first one, where all is zero.
            there = jnp.where(present[..., None], x, jnp.zeros_like(x))
            past = jnp.pad(there, ((0, 0), (2**i, 0), (0, 0)))
            kept.append(past[:, tokens : tokens + 1])
            x = convolved(weights, past[:, :tokens], x)
        return x, kept

    def ask(params: Params, kept: PyTree, x: Array) -> Array:
        for weights, past in zip(params, kept):
            x = convolved(weights, jnp.broadcast_to(past, x.shape), x)
        return x

    return Block(partial(init_each, layers), read, ask, count * filters)


def convolved(weights: Params, past: Array, x: Array) -> Array:
    """[h_t, tanh(f_t) ∘ σ(g_t)], of tokens h_t and those before them."""
    f, g = jnp.split(each(weights, jnp.concatenate([past, x], -1)), 2, -1)
    return jnp.concatenate([x, jnp.tanh(f) * jax.nn.sigmoid(g)], -1)


def _to_the_end(x: Array, present: Array) -> tuple[Array, Array]:
    """Moves the tokens that are present to the end, in their order."""
    order = jnp.argsort(present, axis=1, stable=True)
    moved = jnp.take_along_axis(x, order[..., None], 1)
    return moved, jnp.take_along_axis(present, order, 1)
