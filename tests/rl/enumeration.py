"""A Markov decision process so small that all its trajectories can be listed."""

from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import rl
from metajax.rl.policies import Seen
from metajax.rl.rollout import Steps
from metajax.rl.sampling import Sampled
from metajax.types import Model

STATES = ACTIONS = HORIZON = 2
RNG = np.random.default_rng(0)
TRANSITIONS = RNG.dirichlet(np.ones(STATES), (STATES, ACTIONS))
REWARDS = RNG.normal(size=(STATES, ACTIONS))
THETA = RNG.normal(size=(STATES, ACTIONS))


def lookup():
    """Logits of a table."""
    return Model(
        lambda key: jnp.asarray(THETA), lambda table, x: x.astype(table.dtype) @ table
    )


def small_policy():
    return rl.feedforward(lookup(), rl.categorical(ACTIONS))


def small_mdp():
    """The same process as an environment."""
    return rl.tabular_mdp(STATES, ACTIONS, HORIZON)


class Listed(NamedTuple):
    """Every trajectory: states and actions `[trajectories, horizon]`."""

    states: np.ndarray
    actions: np.ndarray

    @property
    def rewards(self):
        return REWARDS[self.states, self.actions]

    @property
    def returns(self):
        return np.cumsum(self.rewards[:, ::-1], 1)[:, ::-1]

    def log_probs(self, table):
        logs = jax.nn.log_softmax(table)
        return logs[self.states, self.actions]

    def chances(self, table):
        """Of each trajectory, under a policy."""
        moves = TRANSITIONS[self.states[:, 0], self.actions[:, 0], self.states[:, 1]]
        return moves * jnp.exp(jnp.sum(self.log_probs(table), 1))


def every_trajectory():
    rows = list(product(range(ACTIONS), range(STATES), range(ACTIONS)))
    actions = np.array([[a, b] for a, _, b in rows])
    states = np.array([[0, s] for _, s, _ in rows])
    return Listed(states, actions)


def value(table):
    """V(θ), exactly."""
    listed = every_trajectory()
    return jnp.sum(listed.chances(table) * listed.rewards.sum(1))


def sampled(listed, table, weights):
    """Trajectories as the learner holds them, each counted `weights` times.

    All estimators are linear in advantages, or in rewards.
    """
    one_hot = jnp.asarray(np.eye(STATES)[listed.states])
    alive = jnp.ones(listed.actions.shape, bool)
    zeros = jnp.zeros(listed.actions.shape)
    actions = jnp.asarray(listed.actions, jnp.int32)
    seen = Seen(one_hot, actions, zeros, zeros)
    weights = jnp.asarray(weights)[:, None]
    logs = jax.lax.stop_gradient(listed.log_probs(table))
    rewards, returns = listed.rewards * weights, listed.returns * weights
    steps = Steps(seen, actions, rewards, logs, zeros, alive)
    return jax.lax.stop_gradient(Sampled(steps, returns, returns))
