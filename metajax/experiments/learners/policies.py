"""Configurations of learners of policies."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import jax.numpy as jnp

from metajax import learners, rl
from metajax.errors import InputError
from metajax.experiments.bounds import (
    Count,
    CountOrZero,
    NotNegative,
    Positive,
    WholeShare,
)
from metajax.experiments.evaluating import EvaluatingTrials, EvaluatingTrialSteps
from metajax.experiments.learners.adaptation import Adaptation, Setting
from metajax.experiments.learners.loops import OPTIMIZERS
from metajax.learners.rl2 import Played
from metajax.metrics import total_return
from metajax.training import repeated_step, train_step
from metajax.training.step import MakeStep
from metajax.types import Array, Learner

ESTIMATORS: dict[str, dict[str, Any]] = {
    "lvc": {"inner": rl.lvc},
    "dice": {"inner": rl.dice},
    "loaded-dice": {"inner": rl.loaded_dice()},
    "e-maml": {"presampling": True},
}
BASELINES = {
    "linear": rl.linear_features,
    "leave-one-out": rl.leave_one_out,
    "none": rl.no_baseline,
}


@dataclass(frozen=True)
class PolicyLearner(Adaptation):
    """A learner of policies, on what they gather themselves."""

    takes = ("trials",)
    epochs: Count = 1
    """Times that a meta-step goes through its trials, which are played once."""
    minibatches: Count = 1
    """Parts of the trials of a meta-step, each of which makes an update."""
    clip: Positive = 0.2
    """ε of PPO's clipped objective: how far an update may take a policy."""
    discount: WholeShare = 0.99
    """Discount γ of rewards."""

    def planned_step(self) -> MakeStep:
        """Its meta-step, whose minibatches need not divide the meta-batch."""
        return replace(self, minibatches=1).make_step()

    @property
    def updates(self) -> int:
        """Outer updates of a meta-step."""
        return self.epochs * self.minibatches


@dataclass(frozen=True)
class Rl2(PolicyLearner):
    """RL²: a policy whose memory learns over the episodes of a trial."""

    name = "rl2"
    metric = total_return
    measurement = EvaluatingTrials
    epochs: Count = 8
    decay: WholeShare = 0.95
    """Decay λ of generalised advantage estimation."""
    value_weight: NotNegative = 0.5
    """Weight of the value's squared error."""
    entropy_weight: NotNegative = 0.005
    """Weight of the policy's entropy."""
    reward_scale: Positive = 1.0
    """What rewards are multiplied by in training, so that returns are near 1."""

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner."""
        training = learners.ActorCritic(
            rl.clipped(self.clip),
            self.discount,
            self.decay,
            self.value_weight,
            self.entropy_weight,
            self.reward_scale,
        )
        environment, episodes = setting.own_trials
        return learners.rl2(
            environment, setting.network, episodes, **{"training": training} | changes
        )

    def make_step(self) -> MakeStep:
        """Several updates, on advantages of mean 0 and deviation 1 over all trials."""
        return repeated_step(self.epochs, self.minibatches, prepare=standardize_trials)


def standardize_trials(played: Played) -> Played:
    """The trials of a meta-step, their advantages standardized over all of them."""
    alive = played.steps.alive
    return played._replace(advantages=rl.standardized(played.advantages, alive))


@dataclass(frozen=True)
class MamlRl(PolicyLearner):
    """MAML on policies: the exact gradient through policy gradients."""

    name = "maml-rl"
    measurement = EvaluatingTrialSteps
    differentiated = True
    rate: Positive = 0.1
    """Inner learning rate of the first step."""
    later: Positive = 0.5
    """Inner learning rate of later steps, as a share of the first step's."""
    steps: CountOrZero = 1  # pyright: ignore (a class's constant elsewhere)
    """Inner steps in training."""
    optimizer: Literal["sgd", "momentum", "adam", "adam-b1-0"] = "sgd"
    """Inner optimizer; see maml's."""
    trajectories: Count = 20
    """Trajectories of each inner step, and after the last."""
    estimator: Literal["lvc", "dice", "loaded-dice", "e-maml"] = "lvc"
    """Surrogate whose gradient the inner loop takes, and the outer one goes through;
    e-maml adds the score of what was sampled, of a high variance."""
    baseline: Literal["linear", "leave-one-out", "none"] = "linear"
    """Baseline that is subtracted from returns to make advantages."""

    def taking(self, steps: int) -> Self:
        """The same with another number of inner steps."""
        return replace(self, steps=steps)

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner."""
        if self.updates > 1 and self.estimator != "lvc":
            raise InputError(
                f"--inner.estimator {self.estimator} needs new trajectories for each "
                "update; take lvc, or --inner.epochs 1 and --inner.minibatches 1"
            )
        environment, _ = setting.own_trials
        advantages = rl.advantages(
            BASELINES[self.baseline], standardize=rl.standardized
        )
        sampling = rl.sampling(
            environment,
            setting.network,
            trajectories=self.trajectories,
            discount=self.discount,
            advantages=advantages,
        )
        optimizer = OPTIMIZERS[self.optimizer](self.rate_at)
        arguments = {
            **ESTIMATORS[self.estimator],
            "outer": rl.lvc if self.updates == 1 else rl.clipped(self.clip),
        }
        return learners.maml_rl(sampling, optimizer, self.steps, **arguments | changes)

    def rate_at(self, step: Any) -> Array:
        """The inner learning rate of a step."""
        return jnp.where(step == 0, self.rate, self.rate * self.later)

    def make_step(self) -> MakeStep:
        """One update, or several on what is collected once (ProMP)."""
        if self.updates == 1:
            return train_step
        return repeated_step(self.epochs, self.minibatches)
