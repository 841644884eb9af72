"""What a reinforcement learner adapts to."""

from typing import Any, NamedTuple

from metajax.errors import InputError
from metajax.rl.environment import Environment
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
