"""Strategies that learn a tabular MDP, and their plays.

A strategy is a pure function of the posterior, called at the start of each episode:

    strategy(posterior, horizon, key) -> policy, int[horizon, states]

It is wrapped in `jax.tree_util.Partial`; see `benchmarks.rl.bandits`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from benchmarks.rl.mdps import value_iteration
from metajax.rl import TabularMDP
from metajax.types import Array

Strategy = Partial


class Posterior(NamedTuple):
    """What has been seen of a task.

    Attributes:
      visits: transitions, counted, `float[states, actions, states]`.
      totals: sums of the rewards, `float[states, actions]`.
    """

    visits: Array
    totals: Array

    def mean(self, prior_mean: Array) -> TabularMDP:
        """The means of Dirichlet(1 + visits), and (m + Σ r)/(1 + n) of rewards."""
        counts = self.visits + 1
        rewards = (prior_mean + self.totals) / (1 + self.visits.sum(-1))
        return TabularMDP(counts / counts.sum(-1, keepdims=True), rewards)

    def sample(self, prior_mean: Array, key: Array) -> TabularMDP:
        """A draw: Dirichlet(1 + visits), and N((m + Σ r)/(1 + n), 1/(1 + n))."""
        of_transitions, of_rewards = jax.random.split(key)
        weights = jax.random.gamma(of_transitions, self.visits + 1)
        noise = jax.random.normal(of_rewards, self.totals.shape)
        noise /= jnp.sqrt(1 + self.visits.sum(-1))
        transitions = weights / weights.sum(-1, keepdims=True)
        return TabularMDP(transitions, self.mean(prior_mean).rewards + noise)


@Partial
def uniform(posterior: Posterior, horizon: int, key: Array) -> Array:
    """Random actions."""
    states, actions = posterior.totals.shape
    return jax.random.randint(key, (horizon, states), 0, actions)


def greedy(prior_mean: float = 1.0) -> Strategy:
    """What is optimal if the posterior means are true.

    Args:
      prior_mean: that of a reward, under a prior of unit variance; the tasks' own by
        default.
    """
    return Partial(_greedy, prior_mean)


def _greedy(prior_mean, posterior, horizon, key):
    return value_iteration(*posterior.mean(prior_mean), horizon=horizon).policy


def psrl(prior_mean: float = 1.0) -> Strategy:
    """What is optimal if a draw from the posterior is true.

    Args:
      prior_mean: as of `greedy`.

    Source: Osband, Russo and Van Roy, "(More) Efficient Reinforcement Learning via
    Posterior Sampling", NeurIPS 2013.
    """
    return Partial(_psrl, prior_mean)


def _psrl(prior_mean, posterior, horizon, key):
    return value_iteration(*posterior.sample(prior_mean, key), horizon=horizon).policy


@partial(jax.jit, static_argnames=("episodes", "horizon"))
def play(
    strategy: Strategy, mdps: TabularMDP, episodes: int, horizon: int, key: Array
) -> Array:
    """Plays every task, in one compiled program.

    Args:
      strategy: a `Partial`; see above.
      mdps: tasks, with a leading axis.
      episodes: of each task; what was seen in one is known in the next.
      horizon: time steps of an episode.
      key: each task has a key of its own.

    Returns:
      The rewards, `float[tasks, episodes, horizon]`.
    """

    def one_task(mdp, key):
        nothing = Posterior(*jax.tree.map(jnp.zeros_like, mdp))
        keys = jax.random.split(key, episodes)
        run = partial(_episode, strategy, mdp, horizon)
        return jax.lax.scan(run, nothing, keys)[1]

    return jax.vmap(one_task)(mdps, jax.random.split(key, len(mdps.rewards)))


def _episode(strategy, mdp, horizon, posterior, key):
    choice, luck = jax.random.split(key)
    policy = strategy(posterior, horizon, choice)

    def one_step(carry, inputs):
        (visits, totals), state = carry
        actions, key = inputs
        to_state, to_reward = jax.random.split(key)
        at = state, actions[state]
        reward = mdp.rewards[at] + jax.random.normal(to_reward)
        following = jax.random.categorical(to_state, jnp.log(mdp.transitions[at]))
        seen = Posterior(visits.at[*at, following].add(1), totals.at[at].add(reward))
        return (seen, following), reward

    start = posterior, jnp.zeros((), jnp.int32)
    inputs = policy, jax.random.split(luck, horizon)
    (posterior, _), rewards = jax.lax.scan(one_step, start, inputs)
    return posterior, rewards
