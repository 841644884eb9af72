"""Random tabular MDPs, and their optimum.

Transitions ~ Dirichlet(1, ..., 1), mean rewards ~ N(1, 1), rewards with Gaussian noise
of unit variance; every episode starts in state 0.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.metrics import jackknife
from metajax.rl import TabularMDP
from metajax.types import Array


class Plan(NamedTuple):
    """The optimal strategy of a known MDP.

    Attributes:
      values: what is yet to come from each time step on, `float[horizon, states]`.
      policy: the best actions, `int32[horizon, states]`.
    """

    values: Array
    policy: Array


def sample_mdps(
    key: Array, tasks: int, states: int = 10, actions: int = 5
) -> TabularMDP:
    """Random tasks, with a leading axis of tasks."""
    of_transitions, of_rewards = jax.random.split(key)
    shape = (tasks, states, actions)
    weights = jax.random.exponential(of_transitions, (*shape, states))
    transitions = weights / weights.sum(-1, keepdims=True)
    return TabularMDP(transitions, 1 + jax.random.normal(of_rewards, shape))


def value_iteration(
    transitions: Array, rewards: Array, horizon: int, discount: float = 1.0
) -> Plan:
    """The optimal values and actions of ONE known MDP, by backward induction.

      V_h(s) = max_a r(s, a) + γ Σ_s' P(s' | s, a) V_{h+1}(s'),   V_horizon = 0

    Args:
      transitions: P, `float[states, actions, states]`.
      rewards: r, `float[states, actions]`.
      horizon: time steps of an episode.
      discount: γ.

    >>> stay_or_go = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> plan = value_iteration(stay_or_go, jnp.array([[1.0, 0.0], [3.0, 0.0]]), 3)
    >>> print(plan.values[0], plan.policy[:, 0])
    [6. 9.] [1 1 0]
    """

    def backup(values, _):
        gains = rewards + discount * (transitions @ values)
        best = gains.max(axis=1)
        return best, Plan(best, gains.argmax(axis=1))

    start = jnp.zeros(len(rewards), rewards.dtype)
    return jax.lax.scan(backup, start, length=horizon, reverse=True)[1]


def optimal_returns(
    mdps: TabularMDP, horizon: int, discount: float = 1.0
) -> np.ndarray:
    """The optimal value of state 0 at the first time step, `float64[tasks]`."""
    solve = partial(value_iteration, horizon=horizon, discount=discount)
    plans = jax.vmap(solve)(*mdps)
    return np.asarray(plans.values[:, 0, 0], float)


def optimal_share(totals: np.ndarray, optimal: np.ndarray) -> tuple[float, float]:
    """The share of the optimum that was reached, and half its 95 % interval.

      Σ_i totals_i / Σ_i optimal_i

    A ratio of means; the interval is a jackknife over tasks.

    Args:
      totals: rewards of each task, summed over episodes, `float[tasks]`.
      optimal: the most that could be expected, likewise.

    >>> share, interval = optimal_share(np.array([1.0, 3.0]), np.array([4.0, 4.0]))
    >>> print(f"{share:.3f} ± {interval:.3f}")
    0.500 ± 0.490
    """
    without = (totals.sum() - totals) / (optimal.sum() - optimal)
    return totals.sum() / optimal.sum(), float(jackknife(without))
