"""Advantages: how much better than expected an action was."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.rl.rollout import Steps
from metajax.types import Array

Baseline = Callable[[Steps, Array], Array]
Advantages = Callable[[Steps, float], Array]
UNROLL = 10  # steps of a scan at a time, each of which has too little to do


def returns_to_go(rewards: Array, discount: float = 1.0) -> Array:
    """R_t = Σ_{t' ≥ t} γ^{t' - t} r_t', along the last axis.

    >>> returns_to_go(jnp.array([1.0, 0.0, 2.0]), 0.5).tolist()
    [1.5, 1.0, 2.0]
    """

    def add(later: Array, reward: Array):
        total = reward + discount * later
        return total, total

    steps = jnp.moveaxis(rewards, -1, 0)
    zero = jnp.zeros_like(steps[0])
    _, totals = jax.lax.scan(add, zero, steps, reverse=True, unroll=UNROLL)
    return jnp.moveaxis(totals, 0, -1)


def gae(steps: Steps, discount: float, decay: float) -> Array:
    """Generalised advantage estimation over a whole trial, which ends it.

      A_t = δ_t + γ λ A_{t+1},   δ_t = r_t + γ V_{t+1} - V_t,   V_T = 0

    Steps after the end of an episode are passed over: the last step of an episode is
    followed by the first of the next one of the trial.

    Args:
      steps: of `[..., time]`, episodes one after another.
      discount: γ.
      decay: λ.

    Returns:
      `float[..., time]`.

    Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized
    Advantage Estimation", ICLR 2016; over trials: Duan et al., "RL²", 2016.
    """

    def back(carry: tuple[Array, Array], step: tuple[Array, Array, Array]):
        value_after, advantage_after = carry
        reward, value, alive = step
        change = reward + discount * value_after - value
        advantage = change + discount * decay * advantage_after
        carry = (
            jnp.where(alive, value, value_after),
            jnp.where(alive, advantage, advantage_after),
        )
        return carry, jnp.where(alive, advantage, 0)

    parts = steps.reward, steps.value, steps.alive
    time_first = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), parts)
    zero = jnp.zeros_like(time_first[0][0])
    _, advantages = jax.lax.scan(
        back, (zero, zero), time_first, reverse=True, unroll=UNROLL
    )
    return jnp.moveaxis(advantages, 0, -1)


def no_baseline(steps: Steps, returns: Array) -> Array:
    """Zero."""
    return jnp.zeros_like(returns)


def leave_one_out(steps: Steps, returns: Array) -> Array:
    """The mean return to go of the other trajectories at the same step.

      b_t^i = 1/(N - 1) Σ_{j ≠ i} R_t^j

    Args:
      steps: of N trajectories, `[N, horizon]`.
      returns: to go.

    Source: Kool et al., "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019.
    """
    count = max(1, len(returns) - 1)
    return (jnp.sum(returns, 0, keepdims=True) - returns) / count


def linear_features(steps: Steps, returns: Array) -> Array:
    """A linear regression of returns to go on features of the observation and time.

      φ = (s, s², t, t², t³, 1),   t in hundreds of steps

    Args:
      steps: of N trajectories, `[N, horizon]`, of one task.
      returns: to go.

    Returns:
      The fitted values, `float[N, horizon]`.

    Source: Duan et al., "Benchmarking Deep Reinforcement Learning for Continuous
    Control", ICML 2016.
    """
    observation = steps.seen.observation
    count, horizon = returns.shape
    x = jnp.clip(observation.reshape(count, horizon, -1), -10, 10)
    time = jnp.broadcast_to(jnp.arange(horizon)[:, None] / 100, (count, horizon, 1))
    time = time.astype(x.dtype)
    parts = x, x**2, time, time**2, time**3, jnp.ones_like(time)
    features = jnp.where(steps.alive[..., None], jnp.concatenate(parts, -1), 0)
    flat = features.reshape(count * horizon, -1)
    gram = flat.T @ flat + 1e-5 * jnp.eye(flat.shape[1], dtype=flat.dtype)
    weights = jnp.linalg.solve(gram, flat.T @ returns.ravel())
    return features @ weights


def learnt_value(steps: Steps, returns: Array) -> Array:
    """What the policy itself expects: `Outputs.value`.

    Args:
      steps: of trajectories.
      returns: to go.
    """
    return steps.value


def advantages(
    baseline: Baseline = linear_features,
    *,
    decay: float = 1.0,
    standardize: Callable[[Array, Array], Array] | None = None,
) -> Advantages:
    """Builds `advantages(steps, γ) -> float[N, horizon]`, of trajectories of one task.

      A = GAE of γ and λ with V = baseline;  λ = 1 is  R_t - b_t

    Args:
      baseline: `baseline(steps, returns_to_go) -> values`.
      decay: λ.
      standardize: `standardize(advantages, alive)`, applied in the end; `standardized`
        of one task, or nothing.

    Returns:
      The function. What it gives is a constant to derivatives.
    """

    def compute(steps: Steps, discount: float) -> Array:
        returns = returns_to_go(steps.reward, discount)
        values = baseline(steps, returns)
        result = gae(steps._replace(value=values), discount, decay)
        if standardize is not None:
            result = standardize(result, steps.alive)
        return jax.lax.stop_gradient(result)

    return compute


def standardized(values: Array, alive: Array) -> Array:
    """Values of mean 0 and standard deviation 1 over all steps before the end.

    Args:
      values: of the trajectories of one task.
      alive: which steps count.
    """
    count = jnp.maximum(jnp.sum(alive), 1).astype(values.dtype)
    mean = jnp.sum(jnp.where(alive, values, 0)) / count
    centred = jnp.where(alive, values - mean, 0)
    return centred / (jnp.sqrt(jnp.sum(centred**2) / count) + 1e-8)
