"""Relation networks: a learnt comparator of each query with each class."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_count, check_model
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.support import class_means, embed, pair_matrix, support_features
from metajax.losses import score_mse
from metajax.models.initialise import init_named
from metajax.ops.masking import never
from metajax.types import (
    Array,
    Batch,
    Learner,
    Loss,
    Model,
    Padded,
    Params,
    PyTree,
    unpadded,
)


class Compared(NamedTuple):
    """The parameters, and the mean features of each class.

    Attributes:
      body: the body's parameters.
      comparator: the comparator's.
      classes: c, `float[ways, ...]`, each of the shape of the body's features.
      shots: the number of support examples of each class, `float[ways]`.
    """

    body: Params
    comparator: Params
    classes: Array
    shots: Array


def relation(
    body: Model,
    comparator: Model,
    ways: int,
    loss: Loss = score_mse,
    *,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by learnt relation scores.

      r_k(x) = σ(g([c_k, f(x)])),   c_k = mean of f over the support examples of class k
      min Σ (r_k(x) - [y = k])²

    [·, ·] joins channels. The outputs are the logits of r. The paper's c_k is a sum; a
    mean allows for uneven shots. A class without examples is never predicted.

    Args:
      body: f, from inputs to maps of features, `[n, ..., channels]`.
      comparator: g, from joined maps `[n, ..., 2 channels]` to `[n, 1]`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set, of logits.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "comparator": ...}`.

    Raises:
      InputError: if a network is not a `Model`, or `ways` is below 1.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4, halvings=2).parts
    >>> learner = relation(body, mj.models.comparator((7, 7, 8)), ways=5)

    Source: Sung et al., "Learning to Compare: Relation Network for Few-Shot Learning",
    CVPR 2018.
    """
    check_model(body)
    check_model(comparator)
    check_count("ways", ways, least=1)

    def adapt(meta: PyTree, support: Batch) -> Compared:
        params, features = embed(body, meta["body"], support)
        examples = support_features(features, support.targets, ways)
        classes = class_means(examples.features, examples.members)
        classes = classes.reshape(ways, *features.shape[1:])
        shots = jnp.sum(examples.members, 0)
        pairs = _pairs(features, classes, unpadded(support.inputs)[1], shots == 0)
        settled = comparator.settle(meta["comparator"], pairs)
        return Compared(params, settled, classes, shots)

    def predict(adapted: Compared, inputs: PyTree) -> Array:
        features = body.forward(adapted.body, inputs)
        present, absent = unpadded(inputs)[1], adapted.shots == 0
        pairs = _pairs(features, adapted.classes, present, absent)
        logits = comparator.forward(adapted.comparator, keyed_as(inputs, pairs))
        logits = pair_matrix(logits, len(features), ways)
        return jnp.where(absent[None], never(logits.dtype), logits)

    init = partial(init_named, {"body": body, "comparator": comparator})
    return feed_forward_learner(init, adapt, predict, loss, metrics)


def _pairs(
    queries: Array, classes: Array, present: Array | None, absent: Array
) -> PyTree:
    """Every query with every class, `[m * ways, ..., 2 channels]`.

    They are `Padded` if the queries are: padding has no part in a comparator's norms.
    """
    shape = len(queries), *classes.shape
    each = jnp.broadcast_to(queries[:, None], shape)
    pairs = jnp.concatenate([jnp.broadcast_to(classes[None], shape), each], -1)
    pairs = pairs.reshape(-1, *pairs.shape[2:])
    if present is None:
        return pairs
    return Padded(pairs, (present[:, None] & ~absent[None]).ravel())
