"""Bernoulli bandits."""

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.rl.environment import Environment, Transition
from metajax.types import Array


def bernoulli_bandit(arms: int) -> Environment:
    """A row of arms, each of which pays 1 with a chance of its own.

      p_a ~ U[0, 1],   r ~ Bernoulli(p_a)

    An episode is one pull, after which there is nothing to observe but the reward.

    Args:
      arms: how many.

    Returns:
      An `Environment` of horizon 1 whose task is p, `float32[arms]`.

    Raises:
      InputError: for a number below 1.

    >>> bandit = bernoulli_bandit(5)
    >>> bandit.sample(jax.random.key(0)).shape
    (5,)

    Source: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement
    Learning", 2016, section 3.1.
    """
    check_count("arms", arms, least=1)

    def reset(task: Array, key: Array) -> tuple[tuple, Array]:
        return (), jnp.zeros((0,), task.dtype)

    def step(task: Array, state: tuple, action: Array, key: Array) -> Transition:
        pays = jax.random.uniform(key) < task[action]
        nothing = jnp.zeros((0,), task.dtype)
        return Transition((), nothing, pays.astype(task.dtype), jnp.array(True))

    def sample(key: Array) -> Array:
        return jax.random.uniform(key, (arms,))

    return Environment(sample, reset, step, 1, arms)
