"""Heads on a pre-trained backbone: how classes are told apart by its features."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp

from metajax.data.wrappers.jitter import jitter
from metajax.inner import adam
from metajax.labelling.learner import FOLDS, balanced_cross_entropy
from metajax.learners import pmf, prototypical, simple_shot
from metajax.learners.closed_form import HeadRule, closed_form
from metajax.learners.ridge import ridge
from metajax.learners.support import SupportFeatures
from metajax.losses import cross_entropy
from metajax.models import centred, dense, headed
from metajax.models.flat import rows
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array, Learner, Model, Params, PyTree

SCALE = 10.0  # of outputs in [-1, 1], until they are calibrated; Meta-Baseline's start
STRENGTH = 1.0  # λ, of features of length one; R2-D2's start
STEPS, RATE = 20, 1e-4  # of fine-tuning by Adam


class Head(NamedTuple):
    """How classes are told apart by a backbone's features.

    Attributes:
      build: `build(body, features, ways) -> Learner`, of a body with so many features.
      frozen: whether the backbone stays as it is, so that features are computed once.
      chosen: whether `choose_head` may take it.
      folds: the largest number of adaptations of `leave_one_out`.
    """

    build: Callable[[Model, int, int], Learner]
    frozen: bool = True
    chosen: bool = True
    folds: int = FOLDS


def unit(body: Model) -> Model:
    """The features of a body at length one.

      z = φ(x) / |φ(x)|

    >>> plain = Model(lambda key: {}, lambda params, x: x)
    >>> unit(plain).apply({}, jnp.array([[3.0, 4.0]])).round(1).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    def apply(params: Params, inputs: PyTree) -> Array:
        return unit_rows(rows(body.predict(params, inputs)))

    return Model(body.init, apply)


def balanced_ridge(ways: int) -> HeadRule:
    """Ridge regression to the labels, in which every class counts alike.

      W = argmin Σ_i w_i |x_i W - y_i|² + λ|W|²,   w_i = n / (K n_k) for y_i of class k

    Args:
      ways: K, the number of classes.

    Source: Bertinetto et al., "Meta-learning with Differentiable Closed-form Solvers",
    ICLR 2019, without the weights.
    """

    def solve(settings: PyTree, examples: SupportFeatures) -> Params:
        members = examples.members
        sizes = jnp.maximum(jnp.sum(members, 0, keepdims=True), 1.0)
        shares = jnp.sum(members / sizes, 1, keepdims=True)
        weights = jnp.sqrt(shares * len(members) / ways)
        x, y = examples.labelled() * weights, members * weights
        kernel = ridge(x, y, jnp.asarray(STRENGTH, x.dtype))
        return {"kernel": kernel, "bias": jnp.zeros(ways, x.dtype)}

    return HeadRule(lambda dtype: {}, solve)


def scaled(learner: Learner, scale: float = SCALE) -> Learner:
    """A learner whose outputs are so many times as large.

    >>> import jax, metajax as mj
    >>> learner = scaled(mj.prototypical(mj.conv4(2, 4).parts[0], 2), 3.0)
    """

    def predict(adapted: PyTree, inputs: PyTree) -> Array:
        return scale * learner.predict(adapted, inputs)

    return learner._replace(predict=predict)


def _prototypes(body: Model, features: int, ways: int) -> Learner:
    return scaled(simple_shot(body, ways))


def _cosine(body: Model, features: int, ways: int) -> Learner:
    return scaled(prototypical(unit(body), ways))


def _ridge(body: Model, features: int, ways: int) -> Learner:
    return scaled(closed_form(centred(body), ways, cross_entropy, balanced_ridge(ways)))


def _pmf(body: Model, features: int, ways: int) -> Learner:
    augment = jitter(shift=0.1, turn=10, scale=0.1, contrast=0.2, brightness=0.1)
    loss = partial(balanced_cross_entropy, classes=ways)
    model = headed(body, dense(features, ways))
    return pmf(model, loss, adam(RATE), STEPS, augment=augment, scale=SCALE)


HEADS = {
    "prototypes": Head(_prototypes),
    "cosine": Head(_cosine),
    "ridge": Head(_ridge),
    "pmf": Head(_pmf, frozen=False, chosen=False, folds=2),
}
"""By name, the simplest first."""
