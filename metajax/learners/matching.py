"""Matching networks: labels of the support set, weighted by attention."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_model, check_positive
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.full_context import Conditioning, independent
from metajax.learners.support import SupportFeatures, embed, support_features
from metajax.losses import cross_entropy
from metajax.models.flat import rows
from metajax.ops.masking import never
from metajax.ops.precision import dtype_of, product
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Matched(NamedTuple):
    """The parameters, and the embedded support set.

    Attributes:
      body: the body's parameters.
      context: the parameters of the conditioning.
      examples: the support set, g(x_i) and y_i.
    """

    body: Params
    context: PyTree
    examples: SupportFeatures


def matching(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    context: Conditioning | None = None,
    scale: float = 10.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by attention over the support set.

      p(y | x) = Σ_i a(x, x_i) y_i,   a(x, x_i) = softmax_i(s cos(f(x), g(x_i)))

    The outputs are log p(y | x).

    Args:
      body: the embedding, from inputs to features, that f and g share.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      context: how f and g depend on the support set, such as
        `metajax.learners.full_context(features)`; not at all by default.
      scale: s, of the cosines; much slower to learn with at the paper's 1.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "context": ...}` and whose
      `adapt` returns a `Matched`.

    Raises:
      InputError: if the body is not a `Model`, `ways` is not a whole number of at least
        1, or `scale` is not a positive number.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = matching(body, ways=5)

    Source: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_positive("scale", scale)
    conditioning = independent() if context is None else context

    def init(key: Array) -> PyTree:
        first, second = jax.random.split(key)
        params = body.init(first)
        return {"body": params, "context": conditioning.init(second, dtype_of(params))}

    def adapt(meta: PyTree, support: Batch) -> Matched:
        params, features = embed(body, meta["body"], support)
        examples = support_features(features, support.targets, ways)
        seen = conditioning.support(meta["context"], examples)
        return Matched(params, meta["context"], examples._replace(features=seen))

    def predict(adapted: Matched, inputs: PyTree) -> Array:
        features = rows(body.forward(adapted.body, inputs))
        f = conditioning.query(adapted.context, features, adapted.examples)
        return _log_probabilities(f, adapted.examples, scale)

    return feed_forward_learner(init, adapt, predict, loss, metrics)


def _log_probabilities(queries: Array, examples: SupportFeatures, scale: float):
    """Log Σ_i a(x, x_i) y_i, `float[m, ways]`."""
    weights = log_attention(queries, examples, scale)
    # Not the logarithm of a sum, which may be zero at a large scale.
    logits = jax.nn.logsumexp(weights[:, :, None], 1, b=examples.members[None])
    return examples.only_present(logits)


def log_attention(queries: Array, examples: SupportFeatures, scale: float) -> Array:
    """The logarithm of the weight of each support example for each query, by cosines.

    Args:
      queries: f(x), `float[m, d]`.
      examples: the support set, of n; an example without a label has no weight.
      scale: s, of the cosines.

    Returns:
      log a, `float[m, n]`; the rows of a sum to one.

    >>> examples = SupportFeatures(jnp.eye(2), jnp.eye(2), jnp.ones(2))
    >>> jnp.exp(log_attention(jnp.array([[3.0, 3.0]]), examples, scale=1.0))
    Array([[0.5, 0.5]], dtype=float32)
    """
    labelled = jnp.sum(examples.members, 1) > 0
    cosines = scale * product(unit_rows(queries), unit_rows(examples.features).T)
    logits = jnp.where(labelled[None], cosines, never(cosines.dtype))
    return jax.nn.log_softmax(logits, 1)
