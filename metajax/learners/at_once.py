"""What learners share that adapt in one go, without an inner loop."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import undrawn, values_of
from metajax.errors import InputError
from metajax.learners.problem import query_loss
from metajax.losses import check_labels, memberships
from metajax.ops.precision import product
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


def at_once(
    init: Callable[[Array], PyTree],
    adapt: Callable[[PyTree, Batch], PyTree],
    predict: Callable[[PyTree, PyTree], PyTree],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Learner:
    """A learner whose outer loss is `loss` of the query set, and that takes no steps.

    Its networks draw random numbers in the loss alone: nothing is trained in `adapt`.

    Args:
      init: see `metajax.Learner`.
      adapt: see there.
      predict: see there.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      metrics: more of the same, by name.

    Returns:
      A `Learner` whose trajectory is what was adapted, alone.
    """

    def adapted(meta: PyTree, support: Batch) -> PyTree:
        return adapt(meta, support._replace(inputs=undrawn(support.inputs)))

    def predicted(adapted: PyTree, inputs: PyTree) -> PyTree:
        return predict(adapted, undrawn(inputs))

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        return jax.tree.map(lambda x: x[None], adapted(meta, support))

    outer = query_loss(adapt, predict, loss, metrics)
    return Learner(init, adapted, predicted, outer, trajectory)


def settled(body: Model, params: Params, support: Batch) -> tuple[Params, Array]:
    """The body's parameters once it has seen the support set, and its features there.

    Args:
      body: the embedding φ.
      params: its parameters.
      support: the support set.

    Returns:
      The parameters to embed queries with, and φ(x), `float[n, ...]`.
    """
    after = body.settle(params, values_of(support.inputs))
    return after, body.forward(after, support.inputs)


def as_they_are() -> Model:
    """The embedding of inputs that are features already: no parameters."""
    return Model(lambda key: {}, lambda params, inputs: unpadded(inputs)[0])


def rows(features: Array) -> Array:
    """The features of each example in a row, `float[n, features]`."""
    return features.reshape(len(features), math.prod(features.shape[1:]))


def unit(x: Array) -> Array:
    """Rows of length one; of a row of zeros, zeros, whose derivative is finite."""
    square = jnp.sum(x**2, 1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, jnp.finfo(x.dtype).eps ** 2))


def check_features(name: str, features: Array, count: int) -> Array:
    """Returns features `[n, d]` if there are so many of them.

    Raises:
      InputError: if there are others.
    """
    if (found := features.shape[1]) != count:
        raise InputError(
            f"{name} was built for {count} features, and the body has {found}; give it "
            f"features={found}"
        )
    return features


def of_pairs(logits: Array, queries: int, others: int) -> Array:
    """Returns what a comparator says of pairs, `[queries * others, 1]`, in rows.

    Raises:
      InputError: if it does not say one number of each.
    """
    if logits.shape != (queries * others, 1):
        raise InputError(
            f"the comparator must map {queries * others} pairs to one output each, got "
            f"shape {logits.shape}"
        )
    return logits.reshape(queries, others)


class Embedded(NamedTuple):
    """A support set as a head sees it.

    Attributes:
      features: φ(x), `float[n, d]`; zeros for padding.
      members: how much of each example is in each class, `float[n, ways]`; a row of
        zeros has no label, or is padding; one of NaN has a label out of range.
      present: 1 for an example, 0 for padding, `float[n]`.
    """

    features: Array
    members: Array
    present: Array

    def absent(self) -> Array:
        """Which classes have no example, `bool[ways]`."""
        return jnp.sum(self.members, 0) == 0

    def labelled(self) -> Array:
        """The features, zeros too where there is no label."""
        known = (jnp.sum(self.members, 1) > 0).astype(self.features.dtype)
        return self.features * known[:, None]


def embedded(features: Array, targets: PyTree, ways: int) -> Embedded:
    """Features and their targets as an `Embedded`.

    Args:
      features: φ(x), `float[n, ...]`, which are flattened.
      targets: labels `int[n]`, probabilities `float[n, ways]`, or `Padded` of them.
      ways: the number of classes.

    Returns:
      An `Embedded`.

    Raises:
      InputError: if probabilities are not of so many classes, or a label that is at
        hand is of none.

    >>> embedded(jnp.ones((2, 3)), jnp.array([1, 0]), ways=2).members.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    x, (labels, present) = rows(features), unpadded(targets)
    members = memberships(labels, ways, x.dtype)
    if members.shape != (len(x), ways):
        raise InputError(
            f"support targets must be labels [n], or probabilities [n, {ways}] of "
            f"{ways} ways, got {jnp.shape(labels)} for {len(x)} examples"
        )
    if present is None:
        if jnp.issubdtype(labels.dtype, jnp.integer):
            check_labels(labels, ways)
        return Embedded(x, members, jnp.ones_like(members[:, 0]))
    there = present.astype(x.dtype)
    members = jnp.where(present[:, None], members, jnp.zeros_like(members))
    return Embedded(x * there[:, None], members, there)


def means(features: Array, members: Array) -> Array:
    """The prototype c_k of each class.

    Args:
      features: φ(x), `float[n, d]`.
      members: how much of each is in each class, `float[n, ways]`.

    Returns:
      `float[ways, d]`; of a class without examples, zero.

    >>> means(jnp.array([[1.0], [3.0], [5.0]]), jnp.eye(2)[jnp.array([0, 0, 1])])
    Array([[2.],
           [5.]], dtype=float32)
    """
    sums, counts = product(members.T, features), jnp.sum(members, 0)
    return sums / jnp.where(counts > 0, counts, jnp.ones_like(counts))[:, None]
