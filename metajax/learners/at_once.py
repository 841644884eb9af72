"""What learners share that adapt in one go, without an inner loop."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.errors import InputError
from metajax.learners.problem import query_loss
from metajax.losses import probabilities
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

    Args:
      init: see `metajax.Learner`.
      adapt: see there.
      predict: see there.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      metrics: more of the same, by name.

    Returns:
      A `Learner` whose trajectory is what was adapted, alone.
    """

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        return jax.tree.map(lambda x: x[None], adapt(meta, support))

    outer = query_loss(adapt, predict, loss, metrics)
    return Learner(init, adapt, predict, outer, trajectory)


def settled(body: Model, params: Params, support: Batch) -> tuple[Params, Array]:
    """The body's parameters once it has seen the support set, and its features there.

    Args:
      body: the embedding φ.
      params: its parameters.
      support: the support set.

    Returns:
      The parameters to embed queries with, and φ(x), `float[n, ...]`.
    """
    after = body.settle(params, support.inputs)
    return after, body.apply(after, support.inputs)


def as_they_are() -> Model:
    """The embedding of inputs that are features already: no parameters."""
    return Model(lambda key: {}, lambda params, inputs: unpadded(inputs)[0])


def rows(features: Array) -> Array:
    """The features of each example in a row, `float[n, features]`."""
    return features.reshape(len(features), -1)


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


class Embedded(NamedTuple):
    """A support set as a head sees it.

    Attributes:
      features: φ(x), `float[n, ...]`; zeros for padding.
      members: how much of each example is in each class, `float[n, ways]`; a row of
        zeros has no label, or is padding.
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
        return self.features * known.reshape(-1, *[1] * (self.features.ndim - 1))


def embedded(features: Array, targets: PyTree, ways: int) -> Embedded:
    """Features and their targets as an `Embedded`.

    Args:
      features: φ(x), `float[n, ...]`.
      targets: labels `int[n]`, probabilities `float[n, ways]`, or `Padded` of them.
      ways: the number of classes.

    Returns:
      An `Embedded`.

    Raises:
      InputError: if probabilities are not of so many classes.

    >>> embedded(jnp.ones((2, 3)), jnp.array([1, 0]), ways=2).members.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    labels, present = unpadded(targets)
    members = probabilities(labels, ways, features.dtype)
    if members.shape != (len(features), ways):
        raise InputError(
            f"support targets must be labels [n], or probabilities [n, {ways}] of "
            f"{ways} ways, got {jnp.shape(labels)} for {len(features)} examples"
        )
    if present is None:
        return Embedded(features, members, jnp.ones_like(members[:, 0]))
    there = present.astype(features.dtype)
    broad = there.reshape(-1, *[1] * (features.ndim - 1))
    return Embedded(features * broad, members * there[:, None], there)
