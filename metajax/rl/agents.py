"""What a reinforcement learner adapts to."""

from functools import partial
from typing import Any, NamedTuple

import jax

from metajax.errors import InputError
from metajax.rl.environment import Environment
from metajax.rl.heads import Head, categorical, gaussian
from metajax.rl.policies import Policy, Seen
from metajax.rl.rollout import begin
from metajax.types import Array, Params


class Agent(NamedTuple):
    """An agent in the midst of a trial.

    Attributes:
      params: of its policy.
      carried: what it remembers; nothing of `maml_rl`'s.
      step: how many episodes, or steps of adaptation, are behind it.
    """

    params: Params
    carried: Any
    step: Array


def head_for(environment: Environment) -> Head:
    """The distribution of actions that an environment takes, by its usual options.

    >>> from metajax import rl
    >>> head_for(rl.bernoulli_bandit(5)).inputs
    5
    """
    actions = environment.actions
    if isinstance(actions, int):
        return categorical(actions)
    if len(actions) != 1:
        raise InputError(f"actions must be vectors, got the shape {actions}")
    return gaussian(actions[0])


def check_policy(environment: Environment, policy: Policy) -> None:
    """Checks that a policy takes what an environment shows, and gives its actions.

    Raises:
      InputError: if it does not.
    """
    if policy.head.actions != environment.actions:
        raise InputError(
            f"the environment takes {_shown(environment.actions)}, and the policy "
            f"gives {_shown(policy.head.actions)}; build its head for these"
        )
    _check_observations(environment, policy)


def check_remembers(policy: Policy) -> None:
    """Checks that a policy has a memory.

    Raises:
      InputError: if it has none.
    """
    key = jax.random.key(0)
    start = jax.eval_shape(lambda key: policy.start(policy.init(key)), key)
    if not jax.tree.leaves(start):
        raise InputError(
            "RL² needs a policy with a memory, such as rl.gru (--model gru); this one "
            "has none"
        )


def _check_observations(environment: Environment, policy: Policy) -> None:
    first = partial(_first_outputs, environment, policy)
    try:  # shapes alone
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(first, jax.random.key(0))
    except TypeError as error:  # JAX's, of shapes that do not fit
        raise InputError(
            f"the policy does not take observations of {environment.observation_size} "
            f"numbers, as the environment gives; build it for these ({error})".split(
                "\n"
            )[0]
        ) from error


def _first_outputs(environment: Environment, policy: Policy, key: Array):
    params = policy.init(key)
    task = environment.sample(key)
    _, observation = environment.reset(task, key)
    first = begin(environment, policy, params)
    seen = Seen(observation, first.action, first.reward, first.done)
    return policy.apply(params, first.memory, seen)


def _shown(actions: int | tuple[int, ...]) -> str:
    if isinstance(actions, int):
        return f"one of {actions} actions"
    return f"actions of shape {actions}"
