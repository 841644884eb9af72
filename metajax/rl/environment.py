"""The noun `Environment`: a family of Markov decision processes as pure functions."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.errors import InputError
from metajax.types import Array, PyTree


class Transition(NamedTuple):
    """What one step of an environment gives.

    Attributes:
      state: the next state, any pytree.
      observation: what is seen of it, an array.
      reward: a scalar.
      done: `bool[]`, whether the episode ends here.
    """

    state: PyTree
    observation: Array
    reward: Array
    done: Array


class Environment(NamedTuple):
    """A family of tasks to act in, as pure functions of ONE task.

    An episode ends when a step is `done`, or after `horizon` steps. What `reset` draws
    is drawn again for each episode; what `sample` draws stays for the whole task.

    Attributes:
      sample: `sample(key) -> task`, any pytree: the arms' chances, the goal.
      reset: `reset(task, key) -> (state, observation)`.
      step: `step(task, state, action, key) -> Transition`.
      horizon: the most steps of an episode.
      actions: the number of actions, which are `int32[]` from 0; or the shape of an
        action, which is a float array.
    """

    sample: Callable[[Array], PyTree]
    reset: Callable[[PyTree, Array], tuple[PyTree, Array]]
    step: Callable[[PyTree, PyTree, Any, Array], Transition]
    horizon: int
    actions: int | tuple[int, ...]

    @property
    def no_action(self) -> Array:
        """What stands for the action before the first one."""
        if isinstance(self.actions, int):
            return jnp.full((), -1, jnp.int32)
        return jnp.zeros(self.actions)

    @property
    def observation_size(self) -> int:
        """The number of features of an observation."""
        _, _, observation = jax.eval_shape(partial(_begin, self), jax.random.key(0))
        return observation.size


def check_environment(environment: Environment) -> None:
    """Checks that the functions of an environment fit one another, and play with it.

    Args:
      environment: the environment, of which one episode of random actions is played.

    Raises:
      InputError: if the horizon is below 1, the step gives another state or
        observation than the reset, the reward is no finite number, or `done` no bool.
    """
    check_count("horizon", environment.horizon, least=1)
    actions = environment.actions
    if not isinstance(actions, tuple):
        check_count("actions", actions, least=1)
    state, observation, moved = jax.eval_shape(
        partial(_one_step, environment), jax.random.key(0)
    )
    for name, before, after in (
        ("state", state, moved.state),
        ("observation", observation, moved.observation),
    ):
        if _form(before) != _form(after):
            raise InputError(
                f"the {name} of step must be like reset's, {_shown(before)}, got "
                f"{_shown(after)}"
            )
    _check_scalar("reward", moved.reward, jnp.floating, "a float of shape ()")
    _check_scalar("done", moved.done, jnp.bool_, "a bool of shape ()")
    with jax.ensure_compile_time_eval():  # a sampler may be made inside a trace
        play = jax.jit(partial(_random_rewards, environment))
        rewards = np.asarray(play(jax.random.key(0)))
    if not np.isfinite(rewards).all():
        bad = int(np.argmax(~np.isfinite(rewards)))
        raise InputError(
            f"rewards must be finite numbers, got {rewards[bad]} at step {bad} of an "
            "episode of random actions"
        )


def random_action(environment: Environment, key: Array) -> Array:
    """An action at random: uniform among a number, or standard normal."""
    if isinstance(environment.actions, int):
        return jax.random.randint(key, (), 0, environment.actions, jnp.int32)
    return jax.random.normal(key, environment.actions)


def _begin(environment: Environment, key: Array):
    """A task, and the state and observation that an episode of it begins with."""
    sampled, reset = jax.random.split(key)
    task = environment.sample(sampled)
    return task, *environment.reset(task, reset)


def _one_step(environment: Environment, key: Array):
    start, acted, step = jax.random.split(key, 3)
    task, state, observation = _begin(environment, start)
    action = random_action(environment, acted)
    moved = environment.step(task, state, action, step)
    if not isinstance(moved, Transition):
        raise InputError(
            "step must return a metajax.rl.Transition, got " + type(moved).__name__
        )
    return state, observation, moved


def _random_rewards(environment: Environment, key: Array) -> Array:
    """Those of an episode of random actions; 0 after its end."""
    start, rest = jax.random.split(key)
    task, state, _ = _begin(environment, start)

    def step(carry: tuple[PyTree, Array], key: Array):
        state, alive = carry
        acted, moved = jax.random.split(key)
        action = random_action(environment, acted)
        result = environment.step(task, state, action, moved)
        state = jax.tree.map(partial(jnp.where, alive), result.state, state)
        reward = jnp.where(alive, result.reward, 0)
        return (state, alive & jnp.logical_not(result.done)), reward

    keys = jax.random.split(rest, min(environment.horizon, 1000))
    return jax.lax.scan(step, (state, jnp.array(True)), keys)[1]


def _form(tree: PyTree) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype) for x in leaves]


def _shown(tree: PyTree) -> str:
    parts = [f"{x.dtype}{list(x.shape)}" for x in jax.tree.leaves(tree)]
    return ", ".join(parts)


def _check_scalar(name: str, value: Any, kind: Any, expected: str) -> None:
    if value.shape != () or not jnp.issubdtype(value.dtype, kind):
        raise InputError(f"{name} must be {expected}, got {_shown(value)}")
