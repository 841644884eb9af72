"""A meta-step that collects once and updates often."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.checks import check_count
from metajax.data.arrays import length
from metajax.data.staging import to_drawn
from metajax.errors import InputError
from metajax.training.cutting import Chunk, Devices, everywhere
from metajax.training.parallel import map_over_tasks
from metajax.training.state import TrainState
from metajax.training.step import Step, train_step
from metajax.types import Learner, LearnerSchedule, Metrics, PyTree, learner_at


@dataclass(frozen=True)
class RepeatedStep:
    """What `repeated_step` makes; equal ones share a compiled program."""

    epochs: int
    minibatches: int
    prepare: Callable[[PyTree], PyTree] | None = None

    def __call__(
        self,
        learner: Learner | LearnerSchedule,
        optimizer: optax.GradientTransformation,
        *,
        tasks_per_chunk: Chunk = "auto",
        devices: Devices = 1,
    ) -> Step:
        """As `train_step`: builds `step(state, tasks) -> (state, metrics)`."""
        update = train_step(
            learner, optimizer, tasks_per_chunk=tasks_per_chunk, devices=devices
        )

        def collect(shared: PyTree, tasks: PyTree) -> PyTree:
            meta, step, sampler = shared
            own = learner_at(learner, step).collect
            return jax.vmap(partial(own, meta))(sampler.make(tasks))

        gather = map_over_tasks(
            collect, tasks_per_chunk=tasks_per_chunk, devices=devices, pool=everywhere
        )

        def step(state: TrainState, tasks: PyTree) -> tuple[TrainState, Metrics]:
            fetched, sampler = to_drawn(tasks)
            data = gather((state.meta, state.step, sampler), fetched)
            if self.prepare is not None:
                data = self.prepare(data)
            parts = self._parts(data)

            def one(state: TrainState, number: Any) -> tuple[TrainState, Metrics]:
                part = jax.tree.map(lambda x: x[number % self.minibatches], parts)
                after, metrics = update(state, part)
                return after._replace(step=state.step), metrics

            numbers = jnp.arange(self.epochs * self.minibatches)
            after, metrics = jax.lax.scan(one, state, numbers)
            metrics = jax.tree.map(lambda x: jnp.mean(x, 0), metrics)
            return after._replace(step=state.step + 1), metrics

        return step

    def _parts(self, data: PyTree) -> PyTree:
        """The collected data with a leading axis of minibatches."""
        tasks, parts = length(data), self.minibatches
        if tasks % parts:
            raise InputError(
                f"the {tasks} tasks of a meta-batch must be a multiple of the "
                f"{parts} minibatches"
            )
        return jax.tree.map(
            lambda x: x.reshape(parts, tasks // parts, *x.shape[1:]), data
        )


def repeated_step(
    epochs: int,
    minibatches: int = 1,
    *,
    prepare: Callable[[PyTree], PyTree] | None = None,
) -> RepeatedStep:
    """A meta-step of several updates on what the learner collects once.

      data_i = collect(θ_old, task_i);   for each minibatch of each epoch:
      θ ← θ + u(∇_θ mean_i loss(θ, data_i))

    Args:
      epochs: the number of passes over the data.
      minibatches: the number of minibatches per pass, each of which makes an update.
      prepare: `prepare(data) -> data`, of the data of all tasks at once.

    Returns:
      A `make_step` for `fit`, which builds a step as `train_step` does. Its metrics are
      means over the updates.

    Raises:
      InputError: for a number below 1; from the step, if the tasks are not a multiple
        of the minibatches.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> state = mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), steps=2, tasks=4,
    ...     make_step=repeated_step(3))

    Source: Schulman et al., "Proximal Policy Optimization Algorithms", 2017.
    """
    check_count("epochs", epochs, least=1)
    check_count("minibatches", minibatches, least=1)
    return RepeatedStep(epochs, minibatches, prepare)
