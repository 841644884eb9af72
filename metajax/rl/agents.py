"""What a reinforcement learner adapts to."""

from typing import Any, NamedTuple

from metajax.errors import InputError
from metajax.rl.environment import Environment
from metajax.rl.heads import Head, categorical, gaussian
from metajax.rl.policies import Policy
from metajax.types import Array, Params


class Agent(NamedTuple):
    """An agent in the midst of a trial.

    Attributes:
      params: of its policy.
      carried: what it remembers; nothing of `maml_rl`'s.
      done: how many episodes, or steps of adaptation, are behind it.
    """

    params: Params
    carried: Any
    done: Array


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


def check_actions(environment: Environment, policy: Policy) -> None:
    """Checks that a policy gives the actions that an environment takes.

    Raises:
      InputError: if it does not.
    """
    if policy.head.actions != environment.actions:
        raise InputError(
            f"the environment takes {_shown(environment.actions)}, and the policy "
            f"gives {_shown(policy.head.actions)}; build its head for these"
        )


def _shown(actions: int | tuple[int, ...]) -> str:
    if isinstance(actions, int):
        return f"one of {actions} actions"
    return f"actions of shape {actions}"
