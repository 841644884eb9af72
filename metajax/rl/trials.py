"""The task of a reinforcement learner: a `Trial`, and the sampler of them."""

from typing import NamedTuple

import jax

from metajax.rl.environment import Environment, check_environment
from metajax.types import Array, PyTree, Sampler


class Trial(NamedTuple):
    """One task of an environment, and the randomness of all that happens in it.

    Attributes:
      task: of `Environment.sample`.
      key: of what is drawn in it; the same for the same trial, whoever acts.
    """

    task: PyTree
    key: Array

    @property
    def support(self) -> "Trial":
        """What an agent adapts to: the trial itself."""
        return self


def trials(environment: Environment) -> Sampler:
    """The sampler of an environment: `sampler(key, tasks) -> Trial`.

    Args:
      environment: the environment.

    Returns:
      A sampler for `fit` and `evaluate`.

    Raises:
      InputError: see `check_environment`.

    >>> import metajax as mj
    >>> sampler = trials(mj.rl.bernoulli_bandit(5))
    >>> sampler(jax.random.key(0), 3).task.shape
    (3, 5)
    """
    check_environment(environment)

    def one(key: Array) -> Trial:
        sampled, own = jax.random.split(key)
        return Trial(environment.sample(sampled), own)

    def sample(key: Array, tasks: int) -> Trial:
        return jax.vmap(one)(jax.random.split(key, tasks))

    return sample
