"""Random tabular Markov decision processes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.rl.environment import Environment, Transition
from metajax.types import Array


class TabularMDP(NamedTuple):
    """One of them.

    Attributes:
      transitions: `float32[states, actions, states]`, the chance of each next state.
      rewards: `float32[states, actions]`, the mean rewards.
    """

    transitions: Array
    rewards: Array


def tabular_mdp(states: int = 10, actions: int = 5, horizon: int = 10) -> Environment:
    """Random Markov decision processes of a few states, which begin in state 0.

      P(· | s, a) ~ Dirichlet(1, ..., 1),   R(s, a) ~ N(1, 1),   r ~ N(R(s, a), 1)

    Args:
      states: how many; the observation is one of so many.
      actions: how many.
      horizon: steps an episode.

    Returns:
      An `Environment` whose task is a `TabularMDP`.

    Raises:
      InputError: for a number below 1.

    >>> environment = tabular_mdp(states=3, actions=2)
    >>> environment.sample(jax.random.key(0)).transitions.shape
    (3, 2, 3)

    Source: Duan et al., "RL²", 2016, section 3.2; Osband et al., "(More) Efficient
    Reinforcement Learning via Posterior Sampling", NeurIPS 2013.
    """
    for name, value in {"states": states, "actions": actions}.items():
        check_count(name, value, least=1)
    check_count("horizon", horizon, least=1)

    def sample(key: Array) -> TabularMDP:
        moves, pays = jax.random.split(key)
        transitions = jax.random.dirichlet(moves, jnp.ones(states), (states, actions))
        return TabularMDP(transitions, 1 + jax.random.normal(pays, (states, actions)))

    def reset(task: TabularMDP, key: Array) -> tuple[Array, Array]:
        state = jnp.zeros((), jnp.int32)
        return state, jax.nn.one_hot(state, states)

    def step(task: TabularMDP, state: Array, action: Array, key: Array) -> Transition:
        moves, pays = jax.random.split(key)
        chances = jnp.log(task.transitions[state, action])
        following = jax.random.categorical(moves, chances).astype(jnp.int32)
        reward = task.rewards[state, action] + jax.random.normal(pays)
        seen = jax.nn.one_hot(following, states)
        return Transition(following, seen, reward, jnp.array(False))

    return Environment(sample, reset, step, horizon, actions)
