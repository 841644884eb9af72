"""Surrogates of the return, whose derivatives are estimates of its derivatives.

Each is a function of a `Path` that gives a number for each trajectory. At γ = 1 the
gradient of their mean is an unbiased policy gradient, for all of them; they differ in
its own derivative, which is what MAML's exact gradient goes through. For γ < 1, `lvc`,
`clipped` and `score` weigh all steps alike, as is usual; `dice` and `loaded_dice` weigh
them by γ^t. Only `lvc` and `clipped` serve several updates on the same trajectories.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_positive
from metajax.types import Array


class Path(NamedTuple):
    """What an estimator takes of trajectories, `float[..., horizon]` each.

    Attributes:
      log_probs: of the actions, under the policy that is differentiated; 0 after the
        end of an episode.
      old_log_probs: under the policy that played.
      advantages: how much better than expected each action was, a constant; 0 after
        the end.
      rewards: r_t.
      discounts: γ^t.
    """

    log_probs: Array
    old_log_probs: Array
    advantages: Array
    rewards: Array
    discounts: Array


Estimator = Callable[[Path], Array]


def lvc(path: Path) -> Array:
    """The low-variance curvature surrogate.

      Σ_t π(a_t | s_t) / π_old(a_t | s_t) · A_t

    Its Hessian leaves out the products of the scores of different steps: a bias, for
    much less variance.

    Args:
      path: the trajectories.

    Returns:
      `float[...]`, a number for each.

    Source: Rothfuss et al., "ProMP: Proximal Meta-Policy Search", ICLR 2019, eq. 6.
    """
    ratio = jnp.exp(path.log_probs - path.old_log_probs)
    return jnp.sum(ratio * path.advantages, -1)


def clipped(epsilon: float = 0.2) -> Estimator:
    """PPO's objective, which stops where the policy has moved far.

      Σ_t min(ρ_t A_t, clip(ρ_t, 1 - ε, 1 + ε) A_t),   ρ_t = π(a_t|s_t) / π_old(a_t|s_t)

    Args:
      epsilon: ε.

    Returns:
      An estimator.

    Raises:
      InputError: if ε is not positive.

    Source: Schulman et al., "Proximal Policy Optimization Algorithms", 2017, eq. 7.
    """
    check_positive("epsilon", epsilon)

    def estimate(path: Path) -> Array:
        ratio = jnp.exp(path.log_probs - path.old_log_probs)
        near = jnp.clip(ratio, 1 - epsilon, 1 + epsilon)
        worst = jnp.minimum(ratio * path.advantages, near * path.advantages)
        return jnp.sum(worst, -1)

    return estimate


def dice(path: Path) -> Array:
    """DiCE, whose derivatives of every order are unbiased.

      Σ_t ☐(Σ_{t' ≤ t} log π_t') γ^t r_t,   ☐(x) = exp(x - stop(x))

    It takes rewards in place of advantages: its variance is high.

    Args:
      path: the trajectories.

    Returns:
      `float[...]`, a number for each.

    Source: Foerster et al., "DiCE: The Infinitely Differentiable Monte Carlo
    Estimator", ICML 2018.
    """
    return jnp.sum(
        box(jnp.cumsum(path.log_probs, -1)) * path.discounts * path.rewards, -1
    )


def loaded_dice(weight: float = 1.0) -> Estimator:
    """DiCE on advantages: unbiased in every order for any baseline at λ = 1.

      Σ_t γ^t (☐(w_t) - ☐(w_t - log π_t)) A_t,   w_t = λ w_{t-1} + log π_t

    Args:
      weight: λ; below 1 it takes less of the past, a bias for less variance. At 0
        and γ = 1, its derivatives up to the second are those of `lvc`.

    Returns:
      An estimator.

    Source: Farquhar et al., "Loaded DiCE: Trading off Bias and Variance in Any-Order
    Score Function Estimators for Reinforcement Learning", NeurIPS 2019.
    """

    def estimate(path: Path) -> Array:
        logs = path.log_probs

        def add(total: Array, log_prob: Array):
            total = weight * total + log_prob
            return total, total

        steps = jnp.moveaxis(logs, -1, 0)
        _, sums = jax.lax.scan(add, jnp.zeros_like(steps[0]), steps)
        sums = jnp.moveaxis(sums, 0, -1)
        weights = path.discounts * path.advantages
        return jnp.sum((box(sums) - box(sums - logs)) * weights, -1)

    return estimate


def score(path: Path) -> Array:
    """The plain score function, Σ_t log π(a_t | s_t) A_t.

    Its gradient is the policy gradient ĝ(τ); its Hessian is no estimate of the
    return's. It is right where ĝ itself is what is differentiated, at trajectories that
    are held: the inner step of E-MAML's objective, with a score term outside
    (`maml_rl(presampling=True)`).

    Args:
      path: the trajectories.

    Returns:
      `float[...]`, a number for each.

    Source: Williams, "Simple Statistical Gradient-Following Algorithms for
    Connectionist Reinforcement Learning", 1992.
    """
    return jnp.sum(path.log_probs * path.advantages, -1)


def box(x: Array) -> Array:
    """DiCE's magic box: 1, whose derivative is itself times that of x.

    ☐(x) = exp(x - stop(x))
    """
    return jnp.exp(x - jax.lax.stop_gradient(x))
