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
    """Passes over the collected trials in each meta-step."""
    minibatches: Count = 1
    """Minibatches per pass, each of which makes one update."""
    clip: Positive = 0.2
    """ε of PPO's clipped objective, which limits how far an update changes the
    policy."""
    discount: WholeShare = 0.99
    """Discount factor γ of rewards."""

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
    """Weight of the value function's squared error in the loss."""
    entropy_weight: NotNegative = 0.005
    """Weight of the entropy bonus in the loss."""
    reward_scale: Positive = 1.0
    """Factor of rewards in training, chosen so that returns are near 1."""

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
    """Inner learning rate of later steps, relative to the first step's."""
    steps: CountOrZero = 1  # pyright: ignore (a class's constant elsewhere)
    """Inner steps in training."""
    optimizer: Literal["sgd", "momentum", "adam", "adam-b1-0"] = "sgd"
    """Inner optimizer; momentum is 0.9, adam has an eps_root that keeps its derivative
    finite, and adam-b1-0 has β1 = 0."""
    trajectories: Count = 20
    """Trajectories sampled for each inner step, and after the last one for the outer
    loss."""
    estimator: Literal["lvc", "dice", "loaded-dice", "e-maml"] = "lvc"
    """Surrogate objective of the inner loop, which the outer gradient differentiates;
    e-maml adds the score of the sampled trajectories, which has a high variance."""
    baseline: Literal["linear", "leave-one-out", "none"] = "linear"
    """Baseline that is subtracted from returns to compute advantages."""

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
