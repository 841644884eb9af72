"""MAML on policies: the exact gradient through policy gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.checks import check_count
from metajax.gradients import exact
from metajax.inner import InnerState, inner_loop, inner_segment, inner_trajectory
from metajax.metrics import episode_return
from metajax.rl.agents import Agent
from metajax.rl.estimators import Estimator, Path, box, lvc, score
from metajax.rl.rollout import Steps
from metajax.rl.sampling import Sampled, Sampling
from metajax.rl.trials import Trial
from metajax.types import Array, GradTransform, Learner, Metrics, Params


class Gathered(NamedTuple):
    """What one adaptation sampled.

    Attributes:
      inner: before each inner step, with a leading axis of steps.
      outer: after the last.
    """

    inner: Sampled
    outer: Sampled


def maml_rl(
    sampling: Sampling,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    inner: Estimator | None = None,
    outer: Estimator = lvc,
    presampling: bool = False,
    value_weight: float = 0.0,
    grad: GradTransform = exact,
) -> Learner:
    """MAML on policies: learn the policy that policy gradients improve fastest.

      θ_{k+1} = θ_k + α ĝ(τ_k),   τ_k ~ π_{θ_k},   ĝ = ∇ (1/NH) Σ_i inner(τ^i)
      max_θ  J_I = V(θ + α E[ĝ])   or, `presampling`,   J_II = E_τ[V(θ + α ĝ(τ))]

    DiCE estimates the gradient of J_I without bias, and `lvc` approximately. J_II is
    the return that is obtained in practice; since θ determines what is sampled, its
    gradient has a score term, ∇ log π(τ) V(θ').

    Args:
      sampling: the environment, the policy, and how trajectories are sampled:
        `rl.sampling(...)`. The policy's parameters are the meta-parameters.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps; evaluation may take more.
      inner: the estimator of the inner gradient: `rl.lvc` by default, or `rl.dice`,
        `rl.loaded_dice(...)`; with `presampling`, `rl.score`.
      outer: the estimator of the outer gradient: `rl.lvc`, or `rl.clipped(ε)` for
        several updates on data that are collected once (ProMP).
      presampling: whether the objective is J_II, of discounted returns, whatever the
        advantages are. Its gradient has a high variance.
      value_weight: weight of the squared error of the policy's value, if it has one.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.

    Returns:
      A `Learner` of `rl.Trial`s. `predict(agent, trial)` plays N episodes. Its metrics
      are the mean `return` after adaptation, and `before`, if there is a step.

    Raises:
      InputError: if `steps` is not a whole number of at least 0.

    >>> import metajax as mj
    >>> point, head = mj.rl.navigation(horizon=5), mj.rl.gaussian(2)
    >>> policy = mj.rl.feedforward(mj.mlp(2, (8,), 2), head)
    >>> sampling = mj.rl.sampling(point, policy, trajectories=3)
    >>> learner = maml_rl(sampling, optax.sgd(0.1), steps=1)

    Source: Finn et al., ICML 2017, algorithm 3; Al-Shedivat et al., ICLR 2018, and
    Stadie et al., "Some Considerations on Learning to Explore via Meta-Reinforcement
    Learning", 2018, for J_II; Rothfuss et al., "ProMP", ICLR 2019.
    """
    check_count("steps", steps, least=0)
    estimate = inner or (score if presampling else lvc)
    loop = _Loop(sampling, optimizer, steps, estimate, grad)
    objective = loop.presampled if presampling else loop.plain
    return _learner(loop, partial(objective, outer), value_weight)


def _learner(
    loop: "_Loop", objective: Callable[..., Array], value_weight: float
) -> Learner:
    sampling, steps = loop.sampling, loop.steps

    def explore(meta: Params, trial: Trial) -> tuple[Params, Gathered]:
        adapted, batches = loop.explore(meta, trial)
        return adapted, Gathered(batches, sampling.sample(adapted, trial, steps))

    def collect(meta: Params, trial: Trial) -> Gathered:
        return explore(meta, trial)[1]

    def loss(meta: Params, task: Trial | Gathered) -> tuple[Array, Metrics]:
        if isinstance(task, Trial):  # one inner gradient serves to explore and to learn
            adapted, data = explore(meta, task)
        else:
            adapted, data = loop.adapt(meta, task.inner), task
        after, values = sampling.path(adapted, data.outer)
        total = -objective(meta, data, after)
        total += value_weight * _value_loss(values, data.outer)
        metrics = {"return": episode_return(data.outer.steps)}
        if steps:
            first = jax.tree.map(lambda x: x[0], data.inner.steps)
            metrics["before"] = episode_return(first)
        return total, metrics

    def trajectory(meta: Params, support: Trial) -> Agent:
        params = loop.trajectory(meta, loop.explore(meta, support)[1])
        return Agent(params, (), jnp.arange(steps + 1))

    def adapt(meta: Params, support: Trial) -> Agent:
        return Agent(loop.explore(meta, support)[0], (), jnp.asarray(steps))

    def predict(agent: Agent, trial: Trial) -> Steps:
        return sampling.sample(agent.params, trial, agent.step).steps

    init = sampling.policy.init
    return Learner(init, adapt, predict, loss, trajectory, collect)


class _Loop(NamedTuple):
    """The inner loop, as functions of the meta-parameters."""

    sampling: Sampling
    optimizer: optax.GradientTransformation
    steps: int
    estimate: Estimator
    grad: GradTransform

    def loss(self, params: Params, batch: Any) -> Array:
        path, _ = self.sampling.path(params, batch)
        return -self.sampling.mean_step(self.estimate(path))

    def explore(self, meta: Params, trial: Trial) -> tuple[Params, Sampled]:
        """The adapted parameters, and what was sampled before each step."""
        segment = inner_segment(self.loss, self.optimizer, 1, grad=self.grad)

        def step(state: InnerState, number: Array):
            batch: Any = self.sampling.sample(state.params, trial, number)
            return segment.run(state, batch), batch

        last, batches = jax.lax.scan(step, segment.init(meta), jnp.arange(self.steps))
        return last.params, batches

    def adapt(self, meta: Params, batches: Any) -> Params:
        """The adapted parameters, for trajectories that are held."""
        run = inner_loop(
            self.loss, self.optimizer, self.steps, grad=self.grad, view=_of_step
        )
        return run(meta, batches)

    def trajectory(self, meta: Params, batches: Any) -> Params:
        """The parameters after each step, stacked."""
        run = inner_trajectory(
            self.loss, self.optimizer, self.steps, grad=self.grad, view=_of_step
        )
        return run(meta, batches)

    def plain(
        self, outer: Estimator, meta: Params, data: Gathered, after: Path
    ) -> Array:
        """What the outer loop raises, for trajectories that are held."""
        return self.sampling.mean_step(outer(after))

    def presampled(
        self, outer: Estimator, meta: Params, data: Gathered, after: Path
    ) -> Array:
        """The same, with the score of what was sampled; both in the units of V."""
        raw = after._replace(advantages=after.discounts * data.outer.returns)
        plain = self.plain(outer, meta, data, raw)
        return plain + self.score_term(meta, data.inner, after)

    def score_term(self, meta: Params, batches: Sampled, after: Path) -> Array:
        """0, whose gradient is ∇ log π of all that was sampled, times V after it."""
        before = jax.tree.map(lambda x: x[:-1], self.trajectory(meta, batches))
        paths, _ = jax.vmap(self.sampling.path)(before, batches)
        value = self.sampling.mean_step(jnp.sum(after.discounts * after.rewards, -1))
        return (box(jnp.sum(paths.log_probs)) - 1) * jax.lax.stop_gradient(value)


def _value_loss(values: Array, sampled: Sampled) -> Array:
    """Half the mean squared error of values, as estimates of the return to go."""
    return jnp.mean((values - sampled.returns) ** 2, where=sampled.steps.alive) / 2


def _of_step(batches: Any, step: Array) -> Any:
    # A loop of no steps is traced too, and takes nothing of these zeros.
    return jax.tree.map(
        lambda x: x[step] if len(x) else jnp.zeros(x.shape[1:], x.dtype), batches
    )
