"""R2D2: ridge regression as the head."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from metajax.checks import check_positive
from metajax.learners.closed_form import HeadRule, closed_form
from metajax.learners.support import SupportFeatures
from metajax.losses import cross_entropy
from metajax.ops.positive import solve_positive
from metajax.ops.precision import product
from metajax.types import Array, Learner, Loss, Model, Params, PyTree


def r2d2(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    strength: float = 1.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Ridge regression from the features to the labels, solved exactly for each task.

      W = argmin |X W - Y|² + λ|W|² = Xᵀ(X Xᵀ + λI)⁻¹ Y,   Ŷ = α φ(x) W + β

    The rows of X are the features of the support set, and those of Y its labels,
    one-hot. log λ, log α and β are learnt. MetaOptNet's ridge head is the same with
    λ = 50.

    Args:
      body: the embedding φ, from inputs to features: `metajax.conv4(ways).parts[0]`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      strength: the initial value of λ.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, as `metajax.learners.closed_form` returns it.

    Raises:
      InputError: if the body is not a `Model`, `ways` is not a whole number of at least
        1, or the strength is not a positive number.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, filters=4).parts
    >>> learner = r2d2(body, ways=5)

    Source: Bertinetto et al., "Meta-learning with Differentiable Closed-form Solvers",
    ICLR 2019; Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR
    2019.
    """
    start = math.log(check_positive("strength", strength))

    def init(dtype: Any) -> PyTree:
        return {
            "log_strength": jnp.asarray(start, dtype),
            "log_scale": jnp.zeros((), dtype),
            "offset": jnp.zeros((), dtype),
        }

    def solve(settings: PyTree, examples: SupportFeatures) -> Params:
        weights = ridge(
            examples.labelled(), examples.members, jnp.exp(settings["log_strength"])
        )
        offset = jnp.broadcast_to(settings["offset"], (ways,))
        return {"kernel": jnp.exp(settings["log_scale"]) * weights, "bias": offset}

    return closed_form(body, ways, loss, HeadRule(init, solve), metrics=metrics)


def ridge(x: Array, y: Array, strength: Array) -> Array:
    """The weights of ridge regression.

      W = Xᵀ(X Xᵀ + λI)⁻¹ Y = (XᵀX + λI)⁻¹ Xᵀ Y,  whichever system is smaller

    Args:
      x: `float[n, d]`.
      y: `float[n, m]`.
      strength: λ, a scalar above 0.

    Returns:
      `float[d, m]`.

    >>> ridge(jnp.array([[1.0], [2.0]]), jnp.array([[1.0], [2.0]]), jnp.array(5.0))
    Array([[0.5]], dtype=float32)
    """
    few = len(x) <= x.shape[1]
    gram = product(x, x.T) if few else product(x.T, x)
    system = gram + strength * jnp.eye(len(gram), dtype=gram.dtype)
    if few:
        return product(x.T, solve_positive(system, y))
    return solve_positive(system, product(x.T, y))
