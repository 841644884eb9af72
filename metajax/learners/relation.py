"""Relation networks: a learnt comparator of each query with each class."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from metajax._pytrees.keyed import keyed_as
from metajax.checks import check_count, check_model
from metajax.learners.at_once import at_once, embedded, means, of_pairs, settled
from metajax.losses import score_mse
from metajax.models.several import init_named
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
    """What was learnt from a support set: its classes' mean features.

    Attributes:
      body: the body's parameters.
      comparator: the comparator's.
      classes: `float[ways, ...]`, of the shape of the body's features.
      shots: how many support examples each has, `float[ways]`.
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

    [·, ·] joins along the last axis, channels. The paper sums where this takes the
    mean, so that classes may have uneven shots. Its outputs are the logits of r.

    Args:
      body: f, from inputs to maps of features, `[n, ..., channels]`:
        `metajax.conv4(5, halvings=2).parts[0]`.
      comparator: g, from joined maps `[n, ..., 2 channels]` to `[n, 1]`:
        `metajax.models.comparator((7, 7, 128))`.
      ways: the number of classes, see `metajax.prototypical`. One without a support
        example is never chosen; in padded tasks it has no part in g's batch norm.
      loss: `loss(outputs, targets) -> scalar` of the query set, of logits.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"body": ..., "comparator": ...}`.

    Raises:
      InputError: if body or comparator is no `Model`, or `ways` is not a whole number
        of at least 1.

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
        params, features = settled(body, meta["body"], support)
        examples = embedded(features, support.targets, ways)
        classes = means(examples.features, examples.members)
        classes = classes.reshape(ways, *features.shape[1:])
        shots = jnp.sum(examples.members, 0)
        pairs = _pairs(features, classes, unpadded(support.inputs)[1], shots == 0)
        compares = comparator.settle(meta["comparator"], pairs)
        return Compared(params, compares, classes, shots)

    def predict(adapted: Compared, inputs: PyTree) -> Array:
        features = body.forward(adapted.body, inputs)
        present, absent = unpadded(inputs)[1], adapted.shots == 0
        pairs = _pairs(features, adapted.classes, present, absent)
        logits = comparator.forward(adapted.comparator, keyed_as(inputs, pairs))
        logits = of_pairs(logits, len(features), ways)
        return jnp.where(absent[None], never(logits.dtype), logits)

    init = partial(init_named, {"body": body, "comparator": comparator})
    return at_once(init, adapt, predict, loss, metrics)


def _pairs(
    queries: Array, classes: Array, present: Array | None, absent: Array
) -> PyTree:
    """Every query with every class: `[m * ways, ..., 2 channels]`.

    `Padded` where the queries are, so that padding has no part in a comparator's norms.
    """
    shape = len(queries), *classes.shape
    each = jnp.broadcast_to(queries[:, None], shape)
    pairs = jnp.concatenate([jnp.broadcast_to(classes[None], shape), each], -1)
    pairs = pairs.reshape(-1, *pairs.shape[2:])
    if present is None:
        return pairs
    return Padded(pairs, (present[:, None] & ~absent[None]).ravel())
