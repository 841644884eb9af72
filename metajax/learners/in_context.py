"""In-context learning: a sequence model that reads the support set, and no gradient."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_model
from metajax.errors import InputError
from metajax.learners.at_once import as_they_are, at_once, rows, settled
from metajax.models.several import init_named
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
    """What was learnt from a support set: itself.

    Attributes:
      params: of the model.
      pairs: the support set as tokens, `float[shots, features + values + 1]`.
      present: which of them are, `bool[shots]`; None for all.
      body: the body's parameters.
    """

    params: Params
    pairs: Array
    present: Array | None
    body: Params


def as_values(targets: Array) -> Array:
    """The targets themselves, which are values, as features of a token.

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
    """Learns to learn from the support set as it is read: no inner loop.

      ŷ = f_θ((x_1, y_1, 0), ..., (x_K, y_K, 0), (x, 0, 1))
      min_θ Σ_i L_query(f_θ of the support set of task i)

    A token is an example, its target, and whether it is a query, whose target is zero.
    Each query has a sequence of its own, so that queries do not see one another; to a
    model without positions, as the default of `metajax.transformer`, the support set is
    a set.

    Args:
      model: of sequences, from `[n, tokens, features]`, and `Tokens` where tasks are
        padded, to the outputs `[n, ...]` for the last token: `metajax.transformer` of
        as many features as an example and its encoded target have, and one more.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      encode: `encode(targets) -> float[n, ...]`, targets as features: values as they
        are by default; `functools.partial(jax.nn.one_hot, num_classes=5)` for labels.
      body: an embedding of the examples, which are then tokens of as many features as
        it has; none by default. Support examples are embedded once, not once a query.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are the model's, or with a body `{"body": ...,
      "model": ...}`, and whose `adapt` returns a `Context`.

    Raises:
      InputError: if the model or the body is no `Model`, labels are not encoded, or
        examples are not of floating point.

    >>> import jax
    >>> import metajax as mj
    >>> learner = in_context(mj.transformer(1 + 1 + 1, 1, depth=1), mj.mse)
    >>> episode = jax.tree.map(lambda x: x[0], mj.data.sinusoid()(jax.random.key(0), 1))
    >>> adapted = learner.adapt(learner.init(jax.random.key(1)), episode.support)
    >>> adapted.pairs.shape, learner.predict(adapted, episode.query.inputs).shape
    ((10, 3), (10, 1))

    Source: Garg et al., "What Can Transformers Learn In-Context?", NeurIPS 2022; of
    sequences of examples, Santoro et al., "Meta-Learning with Memory-Augmented Neural
    Networks", ICML 2016.
    """
    check_model(model)
    embedding = as_they_are() if body is None else body
    check_model(embedding)

    def adapt(meta: PyTree, support: Batch) -> Context:
        before, network = ({}, meta) if body is None else (meta["body"], meta["model"])
        params, x = settled(embedding, before, support)
        y = _floats(encode(unpadded(support.targets)[0]))
        pairs = jnp.concatenate([_floats(x), y.astype(x.dtype), _flag(x, 0)], axis=1)
        return Context(network, pairs, unpadded(support.inputs)[1], params)

    def predict(adapted: Context, inputs: PyTree) -> PyTree:
        params, pairs, present, embedder = adapted
        x = _floats(embedding.forward(embedder, inputs))
        unknown = jnp.zeros((len(x), pairs.shape[1] - x.shape[1] - 1), x.dtype)
        asked = jnp.concatenate([x, unknown, _flag(x, 1)], axis=1)
        context = jnp.broadcast_to(pairs, (len(x), *pairs.shape))
        tokens = jnp.concatenate([context, asked[:, None]], axis=1)
        if present is not None:
            present = jnp.broadcast_to(jnp.append(present, True), tokens.shape[:2])
            tokens = Tokens(tokens, present)
        return model.forward(params, keyed_as(inputs, tokens))

    named = partial(init_named, {"body": embedding, "model": model})
    init = model.init if body is None else named
    return at_once(init, adapt, predict, loss, metrics)


def _floats(x: Array) -> Array:
    """The features of each example in a row, if they are of floating point."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(
            "examples and encoded targets must be of floating point, got "
            f"{x.dtype}; convert them, or encode labels"
        )
    return rows(x)


def _flag(x: Array, value: int) -> Array:
    """A feature that says which examples are queries."""
    return jnp.full((len(x), 1), value, x.dtype)
