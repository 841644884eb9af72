"""Prototypical networks: an example belongs to the class whose mean is nearest."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.learners.closed_form import HeadRule, closed_form
from metajax.learners.support import SupportFeatures, class_means
from metajax.losses import cross_entropy
from metajax.ops.precision import product
from metajax.types import Array, Learner, Loss, Model, Params, PyTree


def prototypical(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    refinements: int = 0,
    distractors: bool = False,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies by the distance to the mean of each class.

      c_k = mean of φ(x) over the support examples of class k
      p(y = k | x) = softmax_k(-|φ(x) - c_k|²)

    The outputs are 2 c_k·φ(x) - |c_k|², since |φ(x)|² is the same for every class.

    Support examples without a label, whose targets are rows of zeros, refine the
    prototypes by soft k-means, where z_j = p(y | x_j) with the current prototypes:

      c_k ← (Σ_labelled φ(x_i) y_ik + Σ_unlabelled φ(x_j) z_jk) / (Σ_i y_ik + Σ_j z_jk)

    Args:
      body: the embedding φ: `metajax.conv4(5).parts[0]`, or any network of yours.
      ways: the number of classes; no meta-parameter's shape depends on it, so one may
        train with many (the paper uses 60) and test with few.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      refinements: the number of steps of soft k-means; the paper uses 1.
      distractors: adds a cluster at the origin, of a learnt scale r, for unlabelled
        examples of none of the classes; needs at least one refinement.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, as `metajax.learners.closed_form` returns it.

    Raises:
      InputError: if the body is not a `Model`, or a number is not a whole one in range.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> training, testing = prototypical(body, ways=60), prototypical(body, ways=5)

    Source: Snell et al., "Prototypical Networks for Few-shot Learning", NeurIPS 2017;
    Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018.
    """
    check_count("refinements", refinements, least=int(distractors))
    rule = prototypes(refinements, distractors=distractors)
    return closed_form(body, ways, loss, rule, metrics=metrics)


def prototypes(refinements: int = 0, *, distractors: bool = False) -> HeadRule:
    """The rule of `prototypical`.

    Args:
      refinements: the number of steps of soft k-means.
      distractors: whether there is a cluster for none of the classes.

    Returns:
      A `HeadRule`. With distractors its one setting is log r, which starts at 0.
    """

    def init(dtype: Any) -> PyTree:
        return {"log_scale": jnp.zeros((), dtype)} if distractors else {}

    def solve(settings: PyTree, examples: SupportFeatures) -> Params:
        features, members, present = examples
        centres = class_means(features, members)
        unlabelled = present * (jnp.sum(members, 1) == 0).astype(present.dtype)
        for _ in range(refinements):
            shares = _shares(settings, examples, centres) * unlabelled[:, None]
            centres = class_means(features, members + shares)
        return prototype_head(centres)

    return HeadRule(init, solve)


def _shares(settings: PyTree, examples: SupportFeatures, centres: Array) -> Array:
    """p(y | x) of each example, `float[n, ways]`."""
    head, features = prototype_head(centres), examples.features
    logits = product(features, head["kernel"]) + head["bias"][None]
    logits = examples.only_present(logits)
    if not settings:
        return jax.nn.softmax(logits, 1)
    size, scale = jnp.sum(features**2, 1, keepdims=True), settings["log_scale"]
    # The cluster at the origin is a Gaussian of scale r; a class's has scale 1.
    none = size * (1 - jnp.exp(-2 * scale)) - scale
    return jax.nn.softmax(jnp.concatenate([logits, none], 1), 1)[:, :-1]


def prototype_head(centres: Array) -> Params:
    """The linear head of a prototypical network.

      W_k = 2 c_k,  b_k = -|c_k|²,  so that  W_k·φ + b_k = |φ|² - |φ - c_k|²

    Args:
      centres: c, `float[ways, d]`.

    Returns:
      `{"kernel": float[d, ways], "bias": float[ways]}`.

    >>> head = prototype_head(jnp.array([[2.0], [5.0]]))
    >>> head["kernel"].tolist(), head["bias"].tolist()
    ([[4.0, 10.0]], [-4.0, -25.0])
    """
    return {"kernel": 2 * centres.T, "bias": -jnp.sum(centres**2, 1)}
