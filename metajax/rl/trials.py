"""The task of a reinforcement learner: a `Trial`, and the sampler of them."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from metajax.data.sampling import StagedSampler
from metajax.rl.environment import Environment, check_environment
from metajax.types import Array, Learner, PyTree


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrialSampler(StagedSampler):
    """The sampler that `trials` makes: `sampler(key, tasks) -> Trial`."""

    environment: Environment = field(metadata={"static": True})

    def make_task(self, key: Array) -> Trial:
        """Makes a trial of a key."""
        sampled, own = jax.random.split(key)
        return Trial(self.environment.sample(sampled), own)


def trials(environment: Environment) -> TrialSampler:
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
    return TrialSampler(environment)


def judge(learner: Learner, agent: PyTree, trial: Trial) -> tuple[Any, None]:
    """What an agent does next in a trial: the `judge` of `metajax.evaluate`.

    Args:
      learner: a learner of policies.
      agent: what it adapted to.
      trial: the trial.

    Returns:
      The steps of its episodes, and no targets; for `metrics.average_return`, or for
      `metrics.total_return` of a learner that remembers.
    """
    return learner.predict(agent, trial), None
