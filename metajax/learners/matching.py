"""Matching networks: labels of the support set, weighted by attention."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model, check_positive
from metajax.learners.at_once import (
    Embedded,
    at_once,
    check_features,
    embedded,
    rows,
    settled,
    unit,
)
from metajax.learners.lstm import lstm, lstm_init, lstm_start
from metajax.losses import cross_entropy
from metajax.ops.masking import never
from metajax.ops.precision import dtype_of, product
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Context(NamedTuple):
    """How embeddings see the support set.

    Attributes:
      init: `init(key, dtype) -> params`.
      support: `support(params, examples) -> features`, g(x_i, S).
      query: `query(params, features, examples) -> features`, f(x, S).
    """

    init: Callable[[Array, Any], PyTree]
    support: Callable[[PyTree, Embedded], Array]
    query: Callable[[PyTree, Array, Embedded], Array]


def alone() -> Context:
    """Each example is embedded by itself."""
    return Context(
        lambda key, dtype: {},
        lambda params, examples: examples.features,
        lambda params, features, examples: features,
    )


class Matched(NamedTuple):
    """What was learnt from a support set: itself, embedded.

    Attributes:
      body: the body's parameters.
      context: those of the context.
      examples: the support set.
    """

    body: Params
    context: PyTree
    examples: Embedded


def matching(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    context: Context | None = None,
    scale: float = 10.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by attention over the support set.

      p(y | x) = Σ_i a(x, x_i) y_i,   a(x, x_i) = softmax_i(s cos(f(x), g(x_i)))

    Its outputs are the logarithms of p.

    Args:
      body: the embedding, of f and g alike, see `metajax.prototypical`.
      ways: the number of classes, see there.
      loss: see `metajax.maml`.
      context: what f and g see of the support set: nothing by default;
        `metajax.learners.full_context(features)` is the paper's other form.
      scale: s, of the cosines; at the paper's 1 no softmax of them is sure, and it
        learns much more slowly.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "context": ...}` and whose
      `adapt` returns the support set, embedded.

    Raises:
      InputError: if the body is no `Model`, `ways` is not a whole number of at least 1,
        or the scale is not a positive number.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = matching(body, ways=5)

    Source: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_positive("scale", scale)
    sees = alone() if context is None else context

    def init(key: Array) -> PyTree:
        first, second = jax.random.split(key)
        params = body.init(first)
        return {"body": params, "context": sees.init(second, dtype_of(params))}

    def adapt(meta: PyTree, support: Batch) -> Matched:
        params, features = settled(body, meta["body"], support)
        examples = embedded(features, support.targets, ways)
        seen = sees.support(meta["context"], examples)
        return Matched(params, meta["context"], examples._replace(features=seen))

    def predict(adapted: Matched, inputs: PyTree) -> Array:
        features = rows(body.forward(adapted.body, inputs))
        f = sees.query(adapted.context, features, adapted.examples)
        weights = log_attention(f, adapted.examples, scale)
        members = adapted.examples.members
        # Not the logarithm of a sum, which at a large scale may be zero.
        chosen = jax.nn.logsumexp(weights[:, :, None], 1, b=members[None])
        absent = adapted.examples.absent()[None]
        return jnp.where(absent, never(chosen.dtype), chosen)

    return at_once(init, adapt, predict, loss, metrics)


def log_attention(queries: Array, examples: Embedded, scale: float) -> Array:
    """The logarithm of the weight of each support example for each query, by cosines.

    Args:
      queries: f(x), `float[m, d]`.
      examples: the support set, of n; what has no label has next to no weight.
      scale: s, of the cosines.

    Returns:
      log a, `float[m, n]`; the rows of a sum to one.

    >>> examples = Embedded(jnp.eye(2), jnp.eye(2), jnp.ones(2))
    >>> jnp.exp(log_attention(jnp.array([[3.0, 3.0]]), examples, scale=1.0))
    Array([[0.5, 0.5]], dtype=float32)
    """
    labelled = jnp.sum(examples.members, 1) > 0
    cosines = scale * product(unit(queries), unit(examples.features).T)
    logits = jnp.where(labelled[None], cosines, never(cosines.dtype))
    return jax.nn.log_softmax(logits, 1)


def full_context(features: int, steps: int = 5) -> Context:
    """Full-context embeddings: g reads the support set, f attends to it as it thinks.

      g(x_i, S) = g'(x_i) + h→_i + h←_i,   of LSTMs forwards and backwards over S
      f(x, S) = h_steps:  h_k = LSTM(f'(x), [h_{k-1}, r_{k-1}]) + f'(x)
                          r_{k-1} = Σ_i softmax_i(h_{k-1}·g(x_i)) g(x_i)

    g depends on the order of the support set: train on shuffled ones
    (`metajax.data.shuffle_support`).

    Args:
      features: the number of features of the body.
      steps: of f.

    Returns:
      A `Context`.

    Raises:
      InputError: if a number is not a whole one of at least 1.

    >>> context = full_context(64)

    Source: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016,
    appendix A.
    """
    check_count("features", features, least=1)
    check_count("steps", steps, least=1)

    def init(key: Array, dtype: Any) -> PyTree:
        forward, backward, read = jax.random.split(key, 3)
        return {
            "forward": lstm_init(forward, features, features, dtype=dtype),
            "backward": lstm_init(backward, features, features, dtype=dtype),
            "read": lstm_init(read, 2 * features, features, dtype=dtype),
        }

    def support(params: PyTree, examples: Embedded) -> Array:
        check_features("full_context", examples.features, features)
        forward, backward = (
            _run(params[name], examples, reverse=reverse)
            for name, reverse in (("forward", False), ("backward", True))
        )
        return examples.features + forward + backward

    def query(params: PyTree, queries: Array, examples: Embedded) -> Array:
        g = examples.features
        memory = lstm_start(len(queries), features, g.dtype)
        for _ in range(steps):
            logits = product(memory.output, g.T)
            weights = jax.nn.softmax(
                jnp.where(examples.present[None] > 0, logits, never(g.dtype))
            )
            x = jnp.concatenate([queries, product(weights, g)], 1)
            memory = lstm(params["read"], x, memory)
            memory = memory._replace(output=memory.output + queries)
        return memory.output

    return Context(init, support, query)


def _run(weights: PyTree, examples: Embedded, *, reverse: bool) -> Array:
    """The outputs of an LSTM along the support set, which passes over padding."""

    def step(memory: Any, example: tuple[Array, Array]) -> tuple[Any, Array]:
        x, present = example
        after = lstm(weights, x[None], memory)
        after = jax.tree.map(partial(jnp.where, present > 0), after, memory)
        return after, after.output[0]

    x = examples.features
    start = lstm_start(1, x.shape[1], x.dtype)
    return jax.lax.scan(step, start, (x, examples.present), reverse=reverse)[1]
