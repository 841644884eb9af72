"""RL²: an agent whose memory does the learning."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.checks import check_count
from metajax.rl.advantages import gae
from metajax.rl.agents import Agent, check_actions
from metajax.rl.environment import Environment
from metajax.rl.estimators import Estimator, Path, clipped
from metajax.rl.policies import Policy
from metajax.rl.rollout import Steps, begin, play_episode, play_trial
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


def rl2(
    environment: Environment,
    policy: Policy,
    episodes: int,
    *,
    objective: Estimator = PPO,
    discount: float = 0.99,
    decay: float = 0.95,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
) -> Learner:
    """RL²: reinforcement learning of a policy with a memory, over whole trials.

      max_θ E_task E Σ_{e=1}^{E} Σ_t r_{e,t}

    The memory is kept from one episode of a trial to the next, and is zero where a
    trial begins: to learn fast is what the policy is trained for. Its loss is that of
    actor-critic methods,

      -(1/T) Σ_t objective_t + c_v/2T Σ_t (V_t - R_t)² - c_e/T Σ_t H_t

    Args:
      environment: the environment.
      policy: one with a memory, such as `rl.gru`, and a value.
      episodes: E, of a trial.
      objective: an estimator of `metajax.rl`: `clipped(ε)` is PPO's.
      discount: γ, over the whole trial.
      decay: λ of generalised advantage estimation.
      value_weight: c_v.
      entropy_weight: c_e.

    Returns:
      A `Learner` of `rl.Trial`s. `adapt` plays E episodes, `trajectory` gives the agent
      after 0, 1, ..., E - 1 of them, and `predict(agent, trial)` plays the next one.
      `collect` plays a trial for several updates (`metajax.repeated_step`).

    Raises:
      InputError: if `episodes` is below 1, or the policy cannot give such actions.

    >>> import metajax as mj
    >>> bandit = mj.rl.bernoulli_bandit(2)
    >>> policy = mj.rl.gru(0, mj.rl.categorical(2), units=8)
    >>> learner = rl2(bandit, policy, episodes=10)
    >>> adam, trials = optax.adam(1e-3), mj.rl.trials(bandit)
    >>> state = mj.fit(learner, adam, trials, steps=2, tasks=4)

    Source: Duan et al., "RL²: Fast Reinforcement Learning via Slow Reinforcement
    Learning", 2016; Wang et al., "Learning to Reinforcement Learn", 2016.
    """
    check_count("episodes", episodes, least=1)
    check_actions(environment, policy)

    def collect(meta: Params, trial: Trial) -> Played:
        _, steps = play_trial(environment, policy, meta, *trial, episodes)
        steps = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), steps)
        gained = gae(steps, discount, decay)
        return jax.lax.stop_gradient(Played(steps, gained, gained + steps.value))

    def loss(meta: Params, task: Trial | Played) -> tuple[Array, Metrics]:
        played = collect(meta, task) if isinstance(task, Trial) else task
        steps, alive = played.steps, played.steps.alive
        outputs = policy.unroll(meta, policy.start(meta), steps.seen, alive)
        head = policy.head
        logs = jax.vmap(head.log_prob)(outputs.action, steps.action)
        path = Path(
            jnp.where(alive, logs, 0),
            jnp.where(alive, steps.log_prob, 0),
            played.advantages,
            steps.reward,
            jnp.ones_like(logs),
        )
        gain = objective(path) / jnp.sum(alive, dtype=logs.dtype)
        error = jnp.mean((outputs.value - played.returns) ** 2, where=alive)
        entropy = jnp.mean(jax.vmap(head.entropy)(outputs.action), where=alive)
        total = -gain + value_weight / 2 * error - entropy_weight * entropy
        metrics = {"return": jnp.sum(steps.reward), "entropy": entropy}
        return total, metrics

    def trajectory(meta: Params, support: Trial) -> Agent:
        """The agent before each episode."""
        first, count = begin(environment, policy, meta), episodes - 1
        after, _ = play_trial(environment, policy, meta, *support, count)
        every = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, after)
        params = jax.tree.map(lambda x: jnp.stack([x] * episodes), meta)
        return Agent(params, every, jnp.arange(episodes))

    def adapt(meta: Params, support: Trial) -> Agent:
        return jax.tree.map(lambda x: x[-1], trajectory(meta, support))

    def predict(agent: Agent, trial: Trial) -> Steps:
        """The next episode of the trial: the one that `trajectory` goes on with."""
        key = jax.random.fold_in(trial.key, agent.done)
        _, steps = play_episode(
            environment, policy, agent.params, agent.carried, trial.task, key
        )
        return jax.tree.map(lambda x: x[None], steps)

    return Learner(policy.init, adapt, predict, loss, trajectory, collect)
