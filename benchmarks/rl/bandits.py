"""Bernoulli bandits, p_i ~ U[0, 1], and strategies that play them.

A strategy is a pure function of the counts so far:

    strategy(successes, failures, pull, key) -> arm

with `int32[arms]` counts and `pull` = 0, 1, ... It is wrapped in
`jax.tree_util.Partial`, so that what it holds, such as a table, is an argument of the
compiled program. `benchmarks.rl.gittins` and `benchmarks.rl.optimum` have the others.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from metajax.types import Array

Strategy = Partial


def sample_means(key: Array, tasks: int, arms: int) -> Array:
    """The arms' means of each task, `float[tasks, arms]`, p ~ U[0, 1]."""
    return jax.random.uniform(key, (tasks, arms))


@Partial
def uniform(successes: Array, failures: Array, pull: Array, key: Array) -> Array:
    """A random arm."""
    return jax.random.randint(key, (), 0, len(successes))


@Partial
def greedy(successes: Array, failures: Array, pull: Array, key: Array) -> Array:
    """The arm of the largest posterior mean (s + 1) / (n + 2); the first of several."""
    return jnp.argmax(posterior_mean(successes, failures))


@Partial
def thompson(successes: Array, failures: Array, pull: Array, key: Array) -> Array:
    """The arm of the largest draw from the posteriors Beta(s + 1, f + 1).

    Source: Thompson, "On the Likelihood that One Unknown Probability Exceeds Another in
    View of the Evidence of Two Samples", Biometrika, 1933.
    """
    counts = jnp.stack([successes, failures]).astype(jnp.float32)
    # Beta(a, b) is X / (X + Y) of two gammas, which grows with X / Y.
    won, lost = jax.random.gamma(key, counts + 1)
    return jnp.argmax(won / lost)


def ucb1(constant: float) -> Strategy:
    """The arm of the largest upper confidence bound, as Duan et al. (2016) compute it.

      (s + 1)/(n + 2) + c √(2 log t / (n + 2)),   t = 1, 2, ...

    Each arm starts with one success and one failure, so none has to be pulled first.

    Args:
      constant: c; the larger, the more the strategy explores.

    Source: Auer, Cesa-Bianchi and Fischer, "Finite-time Analysis of the Multiarmed
    Bandit Problem", Machine Learning, 2002.
    """
    return Partial(_ucb1, constant)


def _ucb1(constant, successes, failures, pull, key):
    counts = (successes + failures + 2).astype(jnp.float32)
    width = jnp.sqrt(2 * jnp.log(pull.astype(jnp.float32) + 1) / counts)
    return jnp.argmax(posterior_mean(successes, failures) + constant * width)


def posterior_mean(successes: Array, failures: Array) -> Array:
    """The mean (s + 1) / (s + f + 2) of the posterior under a uniform prior."""
    won, lost = (x.astype(jnp.float32) for x in (successes, failures))
    return (won + 1) / (won + lost + 2)


@partial(jax.jit, static_argnames="pulls")
def play(strategy: Strategy, means: Array, pulls: int, key: Array) -> Array:
    """Plays every task, in one compiled program.

    Args:
      strategy: a `Partial`; see above.
      means: the arms' means, `float[tasks, arms]`.
      pulls: of each task.
      key: each task has a key of its own; two strategies that pull one arm at one
        pull with one key have the same reward.

    Returns:
      The rewards, `bool[tasks, pulls]`.

    >>> means = jnp.array([[0.0, 1.0]])
    >>> print(play(greedy, means, 4, jax.random.key(0)).astype(int))
    [[0 1 1 1]]
    """

    def one_task(means, key):
        def one_pull(counts, pull):
            choice, luck = jax.random.split(jax.random.fold_in(key, pull))
            arm = strategy(*counts, pull, choice)
            reward = jax.random.uniform(luck) < means[arm]
            outcomes = jnp.stack([reward, ~reward]).astype(counts.dtype)
            return counts.at[:, arm].add(outcomes), reward

        counts = jnp.zeros((2, len(means)), jnp.int32)
        return jax.lax.scan(one_pull, counts, jnp.arange(pulls))[1]

    return jax.vmap(one_task)(means, jax.random.split(key, len(means)))


def total_rewards(strategy: Strategy, means: Array, pulls: int, key: Array):
    """The total reward of each task, `float64[tasks]`, on the host; see `play`."""
    rewards = np.asarray(play(strategy, means, pulls, key))
    return rewards.sum(axis=1).astype(float)
