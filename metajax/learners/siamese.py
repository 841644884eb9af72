"""Siamese networks: are two examples of the same class?"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_count, check_model
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.support import (
    SupportFeatures,
    class_means,
    embed,
    pair_matrix,
    support_features,
)
from metajax.losses import pair_cross_entropy
from metajax.models.flat import rows
from metajax.models.initialise import init_named
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Twins(NamedTuple):
    """The parameters, and the embedded support set.

    Attributes:
      body: the body's parameters.
      comparator: the comparator's.
      examples: the support set.
    """

    body: Params
    comparator: Params
    examples: SupportFeatures


def siamese(
    body: Model,
    comparator: Model,
    ways: int,
    loss: Loss = pair_cross_entropy,
    *,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by the probability that a query and an example are of one class.

      p(x, x') = σ(g(|f(x) - f(x')|)),    g linear: Σ_j α_j |f_j(x) - f_j(x')| + β

    The output for a class is the mean logit over its support examples.

    Args:
      body: f, from inputs to features: `metajax.conv4(ways).parts[0]`.
      comparator: g, from `[n, features]` to `[n, 1]`: `metajax.dense(features, 1)`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(logits, targets) -> scalar` of the query set; by default that of pairs
        of a query and a class, with equal weight for equal and different classes.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "comparator": ...}`.
      `metajax.learners.verification` compares two examples with them.

    Raises:
      InputError: if body or comparator is not a `Model`, or `ways` is not a whole
        number of at least 1.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = siamese(body, mj.dense(4, 1), ways=5)

    Source: Koch et al., "Siamese Neural Networks for One-shot Image Recognition", ICML
    Deep Learning Workshop 2015.
    """
    check_model(body)
    check_model(comparator)
    check_count("ways", ways, least=1)

    def adapt(meta: PyTree, support: Batch) -> Twins:
        params, features = embed(body, meta["body"], support)
        examples = support_features(features, support.targets, ways)
        return Twins(params, meta["comparator"], examples)

    def predict(adapted: Twins, inputs: PyTree) -> Array:
        examples = adapted.examples
        queries = rows(body.forward(adapted.body, inputs))
        distances = jnp.abs(queries[:, None] - examples.features[None])
        pairs = distances.reshape(-1, distances.shape[-1])
        logits = comparator.forward(adapted.comparator, keyed_as(inputs, pairs))
        logits = pair_matrix(logits, *distances.shape[:2])
        logits = class_means(logits.T, examples.members).T
        return examples.only_present(logits)

    init = partial(init_named, {"body": body, "comparator": comparator})
    return feed_forward_learner(init, adapt, predict, loss, metrics)


def verification(
    body: Model, comparator: Model
) -> Callable[[PyTree, PyTree, PyTree], Array]:
    """The probability that pairs of examples are of one class, learnt by `siamese`.

    Args:
      body: f, the one given to `siamese`.
      comparator: g, likewise.

    Returns:
      `same(meta, a, b) -> float[n]`, the probability that a_i and b_i are of one class.

    >>> import metajax as mj
    >>> body, comparator = mj.mlp(2, (8,), 1).parts[0], mj.dense(8, 1)
    >>> same = verification(body, comparator)
    >>> meta = siamese(body, comparator, ways=5).init(jax.random.key(0))
    >>> same(meta, jnp.ones((3, 2)), jnp.ones((3, 2))).tolist()
    [0.5, 0.5, 0.5]
    """
    check_model(body)
    check_model(comparator)

    def same(meta: PyTree, a: PyTree, b: PyTree) -> Array:
        f, g = (rows(body.predict(meta["body"], x)) for x in (a, b))
        logits = comparator.predict(meta["comparator"], jnp.abs(f - g))
        return jax.nn.sigmoid(logits[:, 0])

    return same
