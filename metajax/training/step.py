"""One meta-step: the outer gradient of a meta-batch, and the update by it."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from metajax._autodiff.optimizers import call_update
from metajax._pytrees.constant import completed, learnt
from metajax.data.arrays import length
from metajax.data.staging import to_drawn
from metajax.training.cutting import Chunk, Cut, Devices, cut, everywhere, weighted_work
from metajax.training.parallel import mean_over_tasks, weighted_sum
from metajax.training.state import TrainState
from metajax.types import Array, Learner, LearnerSchedule, Metrics, PyTree, learner_at

Step = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


class MakeStep(Protocol):
    """What makes a meta-step: `train_step`, or what `repeated_step` gives."""

    def __call__(
        self,
        learner: Learner | LearnerSchedule,
        optimizer: optax.GradientTransformation,
        *,
        tasks_per_chunk: Chunk = "auto",
        devices: Devices = 1,
    ) -> Step:
        """The meta-step."""
        ...


def meta_gradient(
    learner: Learner | LearnerSchedule,
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices = 1,
) -> Callable[..., tuple[tuple[Array, Metrics], PyTree]]:
    """Builds `gradient(meta, tasks, step=0) -> ((loss, metrics), gradient)`.

      ∇_θ (1/B) Σ_i loss(θ, task_i)

    Args:
      learner: the learner, or a schedule of them.
      tasks_per_chunk: how many tasks are vmapped at a time, at most; the gradients of
        the chunks are summed, so memory grows with the chunk and not with the
        meta-batch. "auto" takes as many as stay in cache on a CPU and as many as fit in
        memory elsewhere; None takes all, as a meta-batch needs that you have sharded
        yourself.
      devices: how many devices share the tasks, at most; fewer where they would have
        too little to do. With several processes, all or 1. Or the devices themselves,
        such as absent ones to compile for (`metajax.targets.devices`).

    Returns:
      A pure function of the meta-parameters, a meta-batch of B tasks (any pytree that
      the learner's loss takes, with a leading axis of tasks) and, for a schedule, the
      number of meta-steps done. Loss and metrics are averaged over the
      tasks. The gradient has None in place of each `metajax.Constant`.

    Raises:
      InputError: if `tasks_per_chunk` or `devices` is below 1.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> meta, episodes = learner.init(jax.random.key(0)), mj.data.sinusoid()
    >>> gradient = jax.jit(meta_gradient(learner))
    >>> (loss, metrics), grads = gradient(meta, episodes(jax.random.key(1), 4))
    """
    one_chunk = _of_chunk(learner)
    run = mean_over_tasks(one_chunk, tasks_per_chunk=tasks_per_chunk, devices=devices)

    def gradient(meta: PyTree, tasks: PyTree, step: Array | int = 0):
        return run((meta, jnp.asarray(step, jnp.int32)), tasks)

    return gradient


def cut_of(
    learner: Learner | LearnerSchedule,
    meta: PyTree,
    batch: PyTree,
    tasks_per_chunk: Chunk,
    devices: Devices,
) -> Cut:
    """How `meta_gradient` cuts a meta-batch, abstract or not.

    Args:
      learner: see there.
      meta: the meta-parameters.
      batch: the meta-batch.
      tasks_per_chunk: see there.
      devices: see there.
    """
    shared = (meta, jax.eval_shape(lambda: jnp.zeros((), jnp.int32)))
    work = weighted_work(_of_chunk(learner), shared, batch)
    tasks = length(to_drawn(batch).tasks)
    return cut(tasks, work, tasks_per_chunk, everywhere(devices))


def _of_chunk(learner: Learner | LearnerSchedule) -> Callable[..., Any]:
    """Loss, metrics and gradient of a chunk, for `mean_over_tasks`."""

    def batch_loss(meta: PyTree, step: Array, tasks: PyTree, weights: Array):
        loss = learner_at(learner, step).loss
        losses, metrics = jax.vmap(loss, (None, 0))(meta, tasks)

        mean = partial(weighted_sum, weights)
        return mean(losses), jax.tree.map(mean, metrics)

    def one_chunk(shared: tuple[PyTree, Array], tasks: PyTree, weights: Array):
        meta, step = shared

        def of_part(part: PyTree) -> tuple[Array, Metrics]:
            return batch_loss(completed(part, meta), step, tasks, weights)

        return jax.value_and_grad(of_part, has_aux=True)(learnt(meta))

    return one_chunk


def train_step(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices = 1,
) -> Step:
    """Builds `step(state, tasks) -> (state, metrics)`, one meta-step.

      θ ← θ + u(∇_θ (1/B) Σ_i loss(θ, task_i))

    It is not jitted: the loop, `jit` and donation are up to you.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer u, any of optax that asks for no more than the
        gradient, the parameters and the loss (`value`).
      tasks_per_chunk: see `meta_gradient`.
      devices: see `meta_gradient`.

    Returns:
      A pure function of a `TrainState` and a meta-batch of B tasks. Its metrics are the
      learner's, averaged over the tasks, with the outer `loss` and `gradient_norm`.

    Raises:
      InputError: if `tasks_per_chunk` or `devices` is below 1; from `step`, if
        `optimizer` asks for more.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> optimizer = optax.adam(1e-3)
    >>> step = jax.jit(train_step(learner, optimizer))
    >>> state = mj.init_state(learner, optimizer, jax.random.key(0))
    >>> state, metrics = step(state, mj.data.sinusoid()(jax.random.key(1), 4))
    >>> int(state.step), sorted(metrics)
    (1, ['gradient_norm', 'loss'])
    """
    gradient = meta_gradient(learner, tasks_per_chunk=tasks_per_chunk, devices=devices)

    def step(state: TrainState, tasks: PyTree):
        (loss, metrics), grads = gradient(state.meta, tasks, state.step)
        part = learnt(state.meta)
        offers = {"value": loss, "grad": grads}
        args = grads, state.opt_state, part
        updates, opt_state = call_update(optimizer, args, offers)
        meta = completed(optax.apply_updates(part, updates), state.meta)
        norm = optax.tree.norm(grads)
        metrics = {**metrics, "loss": loss, "gradient_norm": norm}
        return TrainState(meta, opt_state, state.step + 1), metrics

    return step
