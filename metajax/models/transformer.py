"""A small transformer encoder."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.models.attention import attended, layer_norm
from metajax.models.dense import dense
from metajax.models.headed import headed
from metajax.models.initialise import init_named
from metajax.models.precision import exact_by_default
from metajax.models.tokens import each, sequences
from metajax.types import Array, Model, Params, PyTree


def transformer(
    features: int,
    outputs: int,
    *,
    tokens: int | None = None,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    dtype: jnp.dtype | type = jnp.float32,
) -> Model:
    """A pre-norm encoder, from whose last token a linear head reads the outputs.

      h = x W + p
      h ← h + attention(norm(h)),  h ← h + mlp(norm(h))   (`depth` times)
      outputs = norm(h)[last] W' + b'

    Every token attends to every other. The MLP has one hidden layer of 4 `width` and a
    GELU: the whole network is smooth, since its inner loop is differentiated twice.

    Args:
      features: the number of features of a token.
      outputs: the number of outputs.
      tokens: the number of tokens of a sequence, each of which has a learnt position p;
        None for sets of any size, without positions.
      width: the number of features of a token's representation h.
      depth: the number of blocks.
      heads: the number of heads of attention, each of `width / heads` features.
      dtype: the type of the parameters.

    Returns:
      A `headed` `Model` whose `apply` maps `[n, tokens, features]`, or `Tokens`, to
      `[n, outputs]`. The arrays of its norms are called "scale" and "offset".

    Raises:
      InputError: for a depth below 0, another number below 1, or a width that is no
        multiple of the heads.

    >>> model = transformer(3, 5, width=16)
    >>> model.apply(model.init(jax.random.key(0)), jnp.zeros((7, 10, 3))).shape
    (7, 5)

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017; Xiong et al., "On
    Layer Normalization in the Transformer Architecture", ICML 2020, for pre-norm.
    """
    check_count("depth", depth, least=0)
    check_count("heads", heads, least=1)
    if check_count("width", width, least=1) % heads:
        raise InputError(f"width must be a multiple of the {heads} heads, got {width}")
    embedding = dense(features, width, dtype=dtype)
    length = None if tokens is None else check_count("tokens", tokens, least=1)
    init = partial(_init, embedding, length, width, depth, dtype)
    apply = partial(_encode, features, length, heads)
    return headed(
        exact_by_default(Model(init, apply)), dense(width, outputs, dtype=dtype)
    )


def _init(
    embedding: Model,
    length: int | None,
    width: int,
    depth: int,
    dtype: jnp.dtype | type,
    key: Array,
) -> Params:
    first, second, *keys = jax.random.split(key, depth + 2)
    params = {
        "embedding": embedding.init(first),
        "blocks": [init_block(k, width, dtype) for k in keys],
        "norm": init_norm(width, dtype),
    }
    if length is not None:
        normal = jax.nn.initializers.normal(0.02)
        params["positions"] = normal(second, (length, width), dtype)
    return params


def _encode(
    features: int, length: int | None, heads: int, params: Params, inputs: PyTree
) -> Array:
    """The representation of the last token, `float[n, width]`."""
    x, present = sequences(inputs, features, length)
    h = each(params["embedding"], x)
    if length is not None:
        h = h + params["positions"][None]
    for block, weights in enumerate(params["blocks"]):
        h = h + _attention(weights["attention"], h, present, heads)
        h = h + mlp_layer(weights["mlp"], h)
        h = checkpoint_name(h, f"block{block}")
    return layer_norm(params["norm"], h[:, -1])


def init_block(key: Array, width: int, dtype: jnp.dtype | type) -> Params:
    """The parameters of a block: `{"attention": ..., "mlp": ...}`."""

    def layers(key: Array, shapes: Mapping[str, tuple[int, int]]) -> Params:
        models = {name: dense(*shape, dtype=dtype) for name, shape in shapes.items()}
        return {"norm": init_norm(width, dtype), **init_named(models, key)}

    first, second = jax.random.split(key)
    wide = 4 * width
    square = {name: (width, width) for name in ("query", "key", "value", "output")}
    return {
        "attention": layers(first, square),
        "mlp": layers(second, {"hidden": (width, wide), "output": (wide, width)}),
    }


def init_norm(width: int, dtype: jnp.dtype | type) -> Params:
    """The parameters of a `layer_norm`."""
    return {"scale": jnp.ones(width, dtype), "offset": jnp.zeros(width, dtype)}


def _attention(weights: Params, h: Array, present: Array | None, heads: int) -> Array:
    """What each token takes from all tokens."""
    q, k, v = project(weights, h, heads)
    return each(weights["output"], attended(q, k, v, present))


def project(weights: Params, h: Array, heads: int) -> list[Array]:
    """Queries, keys and values of tokens, `float[..., heads, width / heads]` each."""
    x = layer_norm(weights["norm"], h)
    names = "query", "key", "value"
    return [each(weights[name], x).reshape(*x.shape[:-1], heads, -1) for name in names]


def mlp_layer(weights: Params, h: Array) -> Array:
    """An MLP of each token."""
    x = layer_norm(weights["norm"], h)
    return each(weights["output"], jax.nn.gelu(each(weights["hidden"], x)))
