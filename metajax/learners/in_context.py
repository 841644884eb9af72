"""In-context learning: a sequence model reads the support set, without gradients."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_model
from metajax.errors import InputError
from metajax.learners.feed_forward import feed_forward_learner, identity
from metajax.learners.support import embed
from metajax.models.flat import rows
from metajax.models.initialise import init_named
from metajax.models.tokens import Tokens
from metajax.types import (
    Array,
    Batch,
    Learner,
    Loss,
    Model,
    Params,
    PyTree,
    unpadded,
)


class Context(NamedTuple):
    """The parameters, and the support set as tokens.

    Attributes:
      params: the model's parameters.
      pairs: the support set as tokens, `float[shots, features + values + 1]`.
      present: `bool[shots]`, False for padding; None where there is none.
      body: the body's parameters.
    """

    params: Params
    pairs: Array
    present: Array | None
    body: Params


def as_values(targets: Array) -> Array:
    """Targets that are values, unchanged, as features of a token.

    Raises:
      InputError: if they are labels.
    """
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise InputError(
            f"labels ({targets.dtype}) must be written as features of a token: give "
            "in_context encode=functools.partial(jax.nn.one_hot, num_classes=ways)"
        )
    return targets


def in_context(
    model: Model,
    loss: Loss,
    *,
    encode: Callable[[Array], Array] = as_values,
    body: Model | None = None,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """A sequence model reads the support set and each query: no inner loop.

      ŷ = f_θ((x_1, y_1, 0), ..., (x_K, y_K, 0), (x, 0, 1))
      min_θ Σ_i L_query(f_θ of the support set of task i)

    A token is an example, its target (zeros for a query), and whether it is a query.
    Queries do not see one another: each has a sequence of its own.

    Args:
      model: from sequences `[n, tokens, features]`, or `Tokens` of padded tasks, to
        outputs `[n, ...]` for the last token: `metajax.transformer`, with the features
        of an example, of its encoded target and one more.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      encode: `encode(targets) -> float[n, ...]`, the identity by default; for labels,
        `functools.partial(jax.nn.one_hot, num_classes=ways)`.
      body: an embedding of the examples, computed once for each; none by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the model's, or with a body `{"body": ...,
      "model": ...}`, and whose `adapt` returns a `Context`.

    Raises:
      InputError: if the model or the body is not a `Model`; from `adapt`, if examples
        or encoded targets are not of floating point.

    >>> import metajax as mj
    >>> learner = in_context(mj.transformer(1 + 1 + 1, 1, depth=1), mj.mse)

    Source: Garg et al., "What Can Transformers Learn In-Context?", NeurIPS 2022.
    """
    embedding = identity() if body is None else body
    networks = {"body": embedding, "model": model}
    for network in networks.values():
        check_model(network)

    def adapt(meta: PyTree, support: Batch) -> Context:
        params = {"body": {}, "model": meta} if body is None else meta
        body_params, x = embed(embedding, params["body"], support)
        pairs = _tokens(x, encode(unpadded(support.targets)[0]), is_query=0)
        return Context(params["model"], pairs, unpadded(support.inputs)[1], body_params)

    def predict(adapted: Context, inputs: PyTree) -> PyTree:
        sequences = _sequences(adapted, embedding.forward(adapted.body, inputs))
        return model.forward(adapted.params, keyed_as(inputs, sequences))

    init = model.init if body is None else partial(init_named, networks)
    return feed_forward_learner(init, adapt, predict, loss, metrics)


def _tokens(examples: Array, targets: Array, *, is_query: int) -> Array:
    """(x_i, y_i, is_query), `float[n, features + values + 1]`."""
    x, y = _floats(examples), _floats(targets)
    flag = jnp.full((len(x), 1), is_query, x.dtype)
    return jnp.concatenate([x, y.astype(x.dtype), flag], axis=1)


def _sequences(context: Context, queries: Array) -> Array | Tokens:
    """The support set and one query each, `[n, shots + 1, features + values + 1]`."""
    x, pairs = _floats(queries), context.pairs
    unknown = jnp.zeros((len(x), pairs.shape[1] - x.shape[1] - 1), x.dtype)
    last = _tokens(x, unknown, is_query=1)
    shared = jnp.broadcast_to(pairs, (len(x), *pairs.shape))
    tokens = jnp.concatenate([shared, last[:, None]], axis=1)
    if context.present is None:
        return tokens
    present = jnp.append(context.present, True)
    return Tokens(tokens, jnp.broadcast_to(present, tokens.shape[:2]))


def _floats(x: Array) -> Array:
    """The features of each example in a row, if they are of floating point."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            "examples and encoded targets must be of floating point, got "
            f"{x.dtype}; convert them, or encode labels"
        )
    return rows(x)
