"""Playing: episodes of one task, one after another or side by side."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.rl.environment import Environment
from metajax.rl.policies import Policy, Seen
from metajax.types import Array, Params, PyTree


class Steps(NamedTuple):
    """The steps of an episode, `[horizon, ...]`, or of several, with more axes before.

    Attributes:
      seen: what the agent knew.
      action: what it did.
      reward: what it got; 0 after the end.
      log_prob: of its action, under the policy that played.
      value: what that policy expected.
      alive: `bool`, whether the episode had not ended before this step.
    """

    seen: Seen
    action: Array
    reward: Array
    log_prob: Array
    value: Array
    alive: Array


class Carried(NamedTuple):
    """What an agent carries from one episode of a trial to the next.

    Attributes:
      memory: of the policy.
      action: its last action.
      reward: its last reward.
      done: 1 after an episode, 0 before the first.
    """

    memory: PyTree
    action: Array
    reward: Array
    done: Array


def begin(environment: Environment, policy: Policy, params: Params) -> Carried:
    """What an agent carries at the beginning of a trial: nothing."""
    zero = jnp.zeros(())
    return Carried(policy.start(params), environment.no_action, zero, zero)


def play_episode(
    environment: Environment,
    policy: Policy,
    params: Params,
    carried: Carried,
    task: PyTree,
    key: Array,
) -> tuple[Carried, Steps]:
    """One episode, and what is carried on to the next one.

    After the episode's end nothing is remembered, and nothing counts.
    """
    start, rest = jax.random.split(key)
    state, observation = environment.reset(task, start)

    def step(carry: tuple, drawn: tuple[PyTree, Array]):
        carried, state, observation, alive = carry
        seen = Seen(observation, carried.action, carried.reward, carried.done)
        outputs, memory = policy.apply(params, carried.memory, seen)
        noise, moving = drawn
        action = policy.head.act(outputs.action, noise)
        log_prob = policy.head.log_prob(outputs.action, action)
        moved = environment.step(task, state, action, moving)
        reward = jnp.where(alive, moved.reward, 0)
        after = (
            Carried(memory, action, moved.reward, jnp.zeros_like(carried.done)),
            moved.state,
            moved.observation,
            jnp.logical_not(moved.done),  # which may be a plain bool
        )
        # What has ended stays as it is.
        after = jax.tree.map(lambda x, y: jnp.where(alive, x, y), after, carry)
        steps = Steps(seen, action, reward, log_prob, outputs.value, alive)
        return after, steps

    # All noise at once: random bits are slow to draw step by step.
    keys = jax.vmap(jax.random.split)(jax.random.split(rest, environment.horizon))
    drawn = jax.vmap(policy.head.noise)(keys[:, 0]), keys[:, 1]
    first = carried, state, observation, jnp.array(True)
    (carried, *_), steps = jax.lax.scan(step, first, drawn)
    return carried._replace(done=jnp.ones_like(carried.done)), steps


def play_trial(
    environment: Environment,
    policy: Policy,
    params: Params,
    task: PyTree,
    key: Array,
    episodes: int,
) -> tuple[Carried, Steps]:
    """Episodes one after another, of an agent that remembers.

    Returns:
      What it carries after each, and the steps, both with a leading axis of episodes.
    """

    def episode(carried: Carried, number: Array):
        own = jax.random.fold_in(key, number)
        carried, steps = play_episode(environment, policy, params, carried, task, own)
        return carried, (carried, steps)

    first = begin(environment, policy, params)
    return jax.lax.scan(episode, first, jnp.arange(episodes))[1]


def play_side_by_side(
    environment: Environment,
    policy: Policy,
    params: Params,
    task: PyTree,
    key: Array,
    episodes: int,
) -> Steps:
    """Episodes that know nothing of one another, with a leading axis of them."""

    def episode(key: Array) -> Steps:
        first = begin(environment, policy, params)
        return play_episode(environment, policy, params, first, task, key)[1]

    return jax.vmap(episode)(jax.random.split(key, episodes))
