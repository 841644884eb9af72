"""Trajectories that are held while the policy that played them is differentiated."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_share
from metajax.rl.advantages import Advantages, returns_to_go, standardized
from metajax.rl.advantages import advantages as advantages_of
from metajax.rl.agents import check_policy
from metajax.rl.environment import Environment
from metajax.rl.estimators import Path
from metajax.rl.policies import Outputs, Policy
from metajax.rl.rollout import Steps, play_side_by_side
from metajax.rl.trials import Trial
from metajax.types import Array, Params


class Sampled(NamedTuple):
    """Trajectories of one policy, constant to derivatives.

    Attributes:
      steps: `[trajectories, horizon, ...]`.
      advantages: of the actions.
      returns: to go, discounted.
    """

    steps: Steps
    advantages: Array
    returns: Array


class Sampling(NamedTuple):
    """How trajectories of a trial are sampled, and read under other parameters.

    Attributes:
      environment: the environment.
      policy: the policy.
      trajectories: how many.
      discount: γ.
      advantages: `advantages(steps, γ)`.
    """

    environment: Environment
    policy: Policy
    trajectories: int
    discount: float
    advantages: Advantages

    def sample(self, params: Params, trial: Trial, number: Array | int) -> Sampled:
        """Trajectories of a policy; `number` sets those of one trial apart."""
        params = jax.lax.stop_gradient(params)
        key = jax.random.fold_in(trial.key, number)
        steps = play_side_by_side(
            self.environment, self.policy, params, trial.task, key, self.trajectories
        )
        gained = self.advantages(steps, self.discount)
        held = Sampled(steps, gained, returns_to_go(steps.reward, self.discount))
        return jax.lax.stop_gradient(held)

    def path(self, params: Params, sampled: Sampled) -> tuple[Path, Array]:
        """What estimators take under these parameters, and the values."""
        read = partial(read_steps, self.policy, params, discount=self.discount)
        path, outputs = jax.vmap(read)(sampled.steps, sampled.advantages)
        return path, outputs.value

    def mean_step(self, sums: Array) -> Array:
        """The mean over trajectories and steps, of sums over each trajectory."""
        return jnp.mean(sums) / self.environment.horizon


def read_steps(
    policy: Policy,
    params: Params,
    steps: Steps,
    advantages: Array,
    *,
    discount: float = 1.0,
) -> tuple[Path, Outputs]:
    """What estimators take of ONE sequence of held steps, under other parameters.

    Args:
      policy: the policy.
      params: its parameters.
      steps: from the beginning of a trial on, `[time, ...]`.
      advantages: of the actions.
      discount: γ.
    """
    alive = steps.alive
    outputs = policy.unroll(params, policy.start(params), steps.seen, alive)
    logs = jax.vmap(policy.head.log_prob)(outputs.action, steps.action)
    path = Path(
        jnp.where(alive, logs, 0),
        jnp.where(alive, steps.log_prob, 0),
        advantages,
        steps.reward,
        discount ** jnp.arange(len(logs), dtype=logs.dtype),
    )
    return path, outputs


STANDARDIZED = advantages_of(standardize=standardized)


def sampling(
    environment: Environment,
    policy: Policy,
    *,
    trajectories: int = 20,
    discount: float = 0.99,
    advantages: Advantages = STANDARDIZED,
) -> Sampling:
    """How the trajectories of `metajax.maml_rl` are sampled.

    Args:
      environment: the environment.
      policy: the policy.
      trajectories: N, for each inner step, and after the last.
      discount: γ.
      advantages: `advantages(steps, γ)`, of the trajectories of one task and step; by
        default `rl.advantages(rl.linear_features, standardize=rl.standardized)`.

    Raises:
      InputError: if `trajectories` is below 1, or the policy cannot give such actions.
    """
    check_count("trajectories", trajectories, least=1)
    check_share("discount", discount, whole=True)
    check_policy(environment, policy)
    return Sampling(environment, policy, trajectories, discount, advantages)
