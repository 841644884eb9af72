"""RL²: an agent whose memory does the learning."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count, check_positive, check_share
from metajax.rl.advantages import gae
from metajax.rl.agents import Agent, check_policy, check_remembers
from metajax.rl.environment import Environment
from metajax.rl.estimators import Estimator, clipped
from metajax.rl.policies import Policy
from metajax.rl.rollout import Steps, begin, play_episode, play_trial
from metajax.rl.sampling import read_steps
from metajax.rl.trials import Trial
from metajax.types import Array, Learner, Metrics, Params

PPO = clipped(0.2)


class Played(NamedTuple):
    """A trial that was played, for several updates.

    Attributes:
      steps: of all episodes one after another, `[episodes · horizon, ...]`.
      advantages: of the actions.
      returns: what the value is to be.
    """

    steps: Steps
    advantages: Array
    returns: Array


class ActorCritic(NamedTuple):
    """How a policy is trained on the trials that it plays.

      -(1/T) Σ_t objective_t + c_v/2T Σ_t (V_t - R_t)² - c_e/T Σ_t H_t

    Attributes:
      objective: an estimator of `metajax.rl`: `clipped(ε)` is PPO's.
      discount: γ, over the whole trial.
      decay: λ of generalised advantage estimation.
      value_weight: c_v.
      entropy_weight: c_e.
      reward_scale: what rewards are multiplied by, so that values are near 1; else
        their errors drown the policy's gradient.
    """

    objective: Estimator = PPO
    discount: float = 0.99
    decay: float = 0.95
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    reward_scale: float = 1.0

    def check(self) -> None:
        """Refuses numbers out of range.

        Raises:
          InputError: if there is one.
        """
        check_share("discount", self.discount, whole=True)
        check_share("decay", self.decay, whole=True)
        check_positive("reward_scale", self.reward_scale)

    def hold(self, steps: Steps) -> Played:
        """A trial's steps with their advantages, constant to derivatives."""
        scaled = steps._replace(reward=self.reward_scale * steps.reward)
        gained = gae(scaled, self.discount, self.decay)
        return jax.lax.stop_gradient(Played(steps, gained, gained + steps.value))

    def loss(
        self, policy: Policy, params: Params, played: Played
    ) -> tuple[Array, Metrics]:
        """The loss on a trial that is held."""
        steps, alive = played.steps, played.steps.alive
        path, outputs = read_steps(policy, params, steps, played.advantages)
        gain = self.objective(path) / jnp.sum(alive, dtype=path.log_probs.dtype)
        error = jnp.mean((outputs.value - played.returns) ** 2, where=alive)
        entropies = jax.vmap(policy.head.entropy)(outputs.action)
        entropy = jnp.mean(entropies, where=alive)
        total = -gain + self.value_weight / 2 * error - self.entropy_weight * entropy
        return total, {"total_return": jnp.sum(steps.reward), "entropy": entropy}


def rl2(
    environment: Environment,
    policy: Policy,
    episodes: int,
    training: ActorCritic = ActorCritic(),  # noqa: B008 (it is immutable)
) -> Learner:
    """RL²: reinforcement learning of a policy with a memory, over whole trials.

      max_θ E_task E Σ_{e=1}^{E} Σ_t r_{e,t}

    The memory is kept from one episode of a trial to the next, and starts anew with
    each trial, so that the policy is trained to learn fast.

    Args:
      environment: the environment.
      policy: one with a memory and a value, such as `rl.gru`.
      episodes: E, the number of episodes per trial.
      training: the loss of training.

    Returns:
      A `Learner` of `rl.Trial`s. `trajectory` gives the agent after 0, 1, ..., E - 1
      episodes, `adapt` the last of these, and `predict(agent, trial)` plays the next
      episode. `collect` plays a trial for several updates (`metajax.repeated_step`).

    Raises:
      InputError: if `episodes` is below 1, or the policy cannot give such actions.

    >>> import optax, metajax as mj
    >>> bandit = mj.rl.bernoulli_bandit(2)
    >>> policy = mj.rl.gru(0, mj.rl.categorical(2), units=8)
    >>> learner = rl2(bandit, policy, episodes=10)
    >>> adam, trials = optax.adam(1e-3), mj.rl.trials(bandit)
    >>> state = mj.fit(learner, adam, trials, steps=2, tasks=4)

    Source: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement
    Learning", 2016; Wang et al., "Learning to Reinforcement Learn", 2016.
    """
    check_count("episodes", episodes, least=1)
    check_remembers(policy)
    check_policy(environment, policy)
    training.check()
    return _learner(environment, policy, episodes, training)


def _learner(
    environment: Environment, policy: Policy, episodes: int, training: ActorCritic
) -> Learner:
    def collect(meta: Params, trial: Trial) -> Played:
        _, steps = play_trial(environment, policy, meta, *trial, episodes)
        return training.hold(jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), steps))

    def loss(meta: Params, task: Trial | Played) -> tuple[Array, Metrics]:
        played = collect(meta, task) if isinstance(task, Trial) else task
        return training.loss(policy, meta, played)

    def trajectory(meta: Params, support: Trial) -> Agent:
        first, count = begin(environment, policy, meta), episodes - 1
        after, _ = play_trial(environment, policy, meta, *support, count)
        every = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, after)
        params = jax.tree.map(lambda x: jnp.stack([x] * episodes), meta)
        return Agent(params, every, jnp.arange(episodes))

    def adapt(meta: Params, support: Trial) -> Agent:
        return jax.tree.map(lambda x: x[-1], trajectory(meta, support))

    def predict(agent: Agent, trial: Trial) -> Steps:
        # By the key of this episode, so that `trajectory` goes on with the same one.
        key = jax.random.fold_in(trial.key, agent.step)
        _, steps = play_episode(
            environment, policy, agent.params, agent.carried, trial.task, key
        )
        return jax.tree.map(lambda x: x[None], steps)

    return Learner(policy.init, adapt, predict, loss, trajectory, collect)
