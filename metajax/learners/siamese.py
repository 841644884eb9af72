"""Siamese networks: are two examples of the same class?"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_count, check_model
from metajax.learners.at_once import (
    Embedded,
    at_once,
    embedded,
    means,
    of_pairs,
    rows,
    settled,
)
from metajax.losses import pair_cross_entropy
from metajax.models.several import init_named
from metajax.ops.masking import never
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Twins(NamedTuple):
    """What was learnt from a support set: itself, embedded.

    Attributes:
      body: the body's parameters.
      comparator: the comparator's.
      examples: the support set.
    """

    body: Params
    comparator: Params
    examples: Embedded


def siamese(
    body: Model,
    comparator: Model,
    ways: int,
    loss: Loss = pair_cross_entropy,
    *,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by how likely a query and the support examples are of one class.

      p(x, x') = σ(g(|f(x) - f(x')|)),    g linear: Σ_j α_j |f_j(x) - f_j(x')| + β

    The output for a class is the mean logit over its support examples, and the loss is
    that of pairs of a query and a class, as many alike as not.

    Args:
      body: f, the twins' network, see `metajax.prototypical`.
      comparator: g, from `[n, features]` to `[n, 1]`, of each pair by itself:
        `metajax.dense(features, 1)`.
      ways: the number of classes, see `metajax.prototypical`.
      loss: `loss(outputs, targets) -> scalar` of the query set, of logits.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "comparator": ...}`.
      `metajax.learners.verification` asks them of two examples.

    Raises:
      InputError: if body or comparator is no `Model`, or `ways` is not a whole number
        of at least 1.

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
        params, features = settled(body, meta["body"], support)
        examples = embedded(features, support.targets, ways)
        return Twins(params, meta["comparator"], examples)

    def predict(adapted: Twins, inputs: PyTree) -> Array:
        examples = adapted.examples
        queries = rows(body.forward(adapted.body, inputs))
        apart = jnp.abs(queries[:, None] - examples.features[None])
        pairs = apart.reshape(-1, apart.shape[-1])
        logits = comparator.forward(adapted.comparator, keyed_as(inputs, pairs))
        alike = means(of_pairs(logits, *apart.shape[:2]).T, examples.members).T
        return jnp.where(examples.absent()[None], never(alike.dtype), alike)

    init = partial(init_named, {"body": body, "comparator": comparator})
    return at_once(init, adapt, predict, loss, metrics)


def verification(
    body: Model, comparator: Model
) -> Callable[[PyTree, PyTree, PyTree], Array]:
    """How likely pairs of examples are of one class, by what `siamese` learnt.

    Args:
      body: as in `siamese`.
      comparator: likewise.

    Returns:
      `same(meta, a, b) -> float[n]`, the probability that a_i and b_i, of n examples
      each, are of one class.

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
