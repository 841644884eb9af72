"""LR-D2: logistic regression as the head."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive
from metajax.learners.closed_form import HeadRule, closed_form
from metajax.learners.support import SupportFeatures
from metajax.losses import cross_entropy
from metajax.ops.positive import solve_positive
from metajax.ops.precision import product
from metajax.types import Array, Learner, Loss, Model, Params, PyTree

LEAST = 1e-4  # the least μ(1 - μ), for examples of which μ is certain


def lr_d2(
    body: Model,
    ways: int,
    loss: Loss = cross_entropy,
    *,
    strength: float = 1.0,
    steps: int = 5,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Logistic regression of each class against the rest, by Newton's method.

    For each class, with y its labels in {0, 1} and K = X Xᵀ, `steps` times from u = 0:

      μ = σ(K u),  s = μ(1 - μ),  z = K u + (y - μ) / s
      u ← (K + λ diag(s)⁻¹)⁻¹ z,      and then  w = Xᵀ u,  logit = α φ(x)·w

    The logarithms of λ and α are learnt.

    Args:
      body: the embedding φ, from inputs to features: `metajax.conv4(ways).parts[0]`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      strength: the initial value of λ.
      steps: the number of Newton steps; the paper uses 1 and 5.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, as `metajax.learners.closed_form` returns it.

    Raises:
      InputError: if the body is not a `Model`, or a number is out of range.

    >>> import metajax as mj
    >>> learner = lr_d2(mj.conv4(5).parts[0], ways=5)

    Source: Bertinetto et al., "Meta-learning with Differentiable Closed-form Solvers",
    ICLR 2019.
    """
    start = math.log(check_positive("strength", strength))
    check_count("steps", steps, least=1)

    def init(dtype: Any) -> PyTree:
        settings = {"log_strength": start, "log_scale": 0.0}
        return {name: jnp.asarray(value, dtype) for name, value in settings.items()}

    def solve(settings: PyTree, examples: SupportFeatures) -> Params:
        x, labels = examples.labelled(), examples.members
        gram, strength = product(x, x.T), jnp.exp(settings["log_strength"])

        def coefficients(y: Array) -> Array:
            u = jnp.zeros_like(y)
            for _ in range(steps):
                u = _newton(gram, y, strength, u)
            return u

        weights = product(x.T, jax.vmap(coefficients, 1, 1)(labels))
        bias = jnp.zeros(ways, x.dtype)
        return {"kernel": jnp.exp(settings["log_scale"]) * weights, "bias": bias}

    return closed_form(body, ways, loss, HeadRule(init, solve), metrics=metrics)


def _newton(gram: Array, y: Array, strength: Array, u: Array) -> Array:
    """One step for the coefficients u, `float[n]`, of one class."""
    logits = product(gram, u)
    mean = jax.nn.sigmoid(logits)
    variance = jnp.maximum(mean * (1 - mean), LEAST)
    system = gram + jnp.diag(strength / variance)
    return solve_positive(system, (logits + (y - mean) / variance)[:, None])[:, 0]
