"""`fit`: the dispatches of a run, with checkpoints, exact resume and observers.

**Randomness.** All of it comes from `fold_in(seed, step)`, so a run that is stopped at
any moment and started again with the same arguments, checkpoints and devices ends in
the same parameters, bit for bit. So does a run of an iterable that can go on from where
it was: an iterator with `get_state` and `set_state`, as grain's, is saved with the
checkpoint; `metajax.data.from_step` begins at any step; no other iterable resumes.

**Data.** A sampler is called inside jit, and all its randomness must come from its key.
An iterable gives meta-batches of arrays on the host, with a leading axis of `tasks`: a
torch or grain loader, a generator, a list. One that ends begins again, if it can.
Iterables, and what a sampler fetches on the host, are read while the device is busy.

**Checkpoints.** `fit` goes on from what is there, whatever the seed and the settings
were then: give each run a folder of its own. Writing goes on while the next dispatch
runs, and is waited for in the end. An extra checkpoint is saved after ten minutes
without one, and the last step always is.

**Forms.** metajax's operations have several forms (`metajax.ops.forms`). "table" takes
those of a table by backend; "tuned" times them on this device before the first
meta-step. Answers are kept for other runs in the user's cache folder, and with the
checkpoints: a resumed run takes the forms that it began with, whatever is asked for.

**Several processes** (`jax.distributed.initialize`) call `fit` alike and train as one.
Only the first reads and writes checkpoints, and sends the others what it restored; all
stop if one is asked to. Each informs its own observers: give those that write files to
the first process alone (`jax.process_index() == 0`). Where Ray Train, or
`JAX_NUM_PROCESSES`, says that there are more processes than JAX connects, they are
refused, as each would train the same by itself.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Literal, NamedTuple

import jax
import optax

from metajax.checks import check_count, check_one_of, check_seed
from metajax.data.opening import opened
from metajax.data.sampling import StagedSampler
from metajax.data.staging import staged
from metajax.errors import StoppedError
from metajax.ops import Tuned, taking
from metajax.training.cutting import Chunk, Devices
from metajax.training.dispatching import dispatches
from metajax.training.launchers import check_world
from metajax.training.processes import FirstWrites, any_says
from metajax.training.programs import kept_step, one_step
from metajax.training.saving import Runs, Save, resumed, saved_on_error, saving
from metajax.training.sharding import ShardedStep, init_sharded
from metajax.training.state import Checkpointer, Observer, TrainState, init_state
from metajax.training.step import MakeStep, train_step
from metajax.training.tuned import Tuner, forms_of, tuner_of
from metajax.types import (
    Array,
    Learner,
    LearnerSchedule,
    PyTree,
    Sampler,
)

SAVED_WITHIN = 600.0  # seconds, and a dispatch


def fit(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    episodes: Sampler | Iterable[PyTree],
    *,
    steps: int,
    tasks: int,
    seed: int = 0,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices | None = None,
    steps_per_call: int | None = None,
    checkpoints: Checkpointer | None = None,
    checkpoint_every: int = 500,
    observers: Sequence[Observer] = (),
    stop: Callable[[], bool] = lambda: False,
    forms: Literal["table", "tuned"] | Tuner = "table",
    make_step: MakeStep = train_step,
    shard: Literal["state"] | None = None,
) -> TrainState:
    """Meta-trains a learner: many meta-steps per dispatch, sampling included.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer.
      episodes: a sampler of tasks, or an iterable of meta-batches.
      steps: total meta-steps, with those of a resumed run; 0 only saves the start.
      tasks: tasks per meta-batch.
      seed: seeds the initial parameters and every task.
      tasks_per_chunk: see `meta_gradient`.
      devices: see `meta_gradient`; by default, those of all processes.
      steps_per_call: meta-steps per dispatch; by default seconds' worth, at most 100.
      checkpoints: where to save and to resume from; `metajax.Checkpoints`.
      checkpoint_every: meta-steps between checkpoints.
      observers: given the metrics after each dispatch.
      stop: `stop() -> bool`, called before each dispatch; true saves and stops.
      forms: "table", "tuned", or a `tune(function, *args)`; `metajax.ops.tune`.
      make_step: builds the meta-step: `train_step`, or `repeated_step(...)`.
      shard: "state" shards the state over the devices, if it is too large for one.

    Returns:
      The final state.

    Raises:
      InputError: if an argument, the tasks, data or a checkpoint do not fit the run.
      NonFiniteError: if a loss, gradient or meta-parameter is infinite or NaN.
      StoppedError: if `stop` was true. Both errors have the last good `state`.
      OSError: if data cannot be read; as after any error of data, it saves the state.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> batches = [mj.data.sinusoid()(jax.random.key(i), 4) for i in range(3)]
    >>> for episodes in (mj.data.sinusoid(), batches):
    ...     state = fit(learner, optax.adam(1e-3), episodes, steps=20, tasks=4)
    """
    run = _Fit(learner, optimizer, steps, tasks, tasks_per_chunk, devices)
    run = run._replace(steps_per_call=steps_per_call, make_step=make_step, shard=shard)
    run = run._replace(checkpoint_every=checkpoint_every, observers=observers)
    run = run._replace(stop=stop, tuner=tuner_of(forms))
    run.check(seed)
    return run.train(staged(episodes), jax.random.key(seed), checkpoints)


class _Fit(NamedTuple):
    """The arguments of `fit` that stay the same during a run."""

    learner: Learner | LearnerSchedule
    optimizer: optax.GradientTransformation
    steps: int
    tasks: int
    tasks_per_chunk: Chunk
    devices: Devices | None
    steps_per_call: int | None = None
    checkpoint_every: int = 500
    observers: Sequence[Observer] = ()
    stop: Callable[[], bool] = lambda: False
    tuner: Tuner | None = None
    make_step: MakeStep = train_step
    shard: Literal["state"] | None = None

    def check(self, seed: int) -> None:
        check_world()
        check_seed("seed", seed)
        check_count("steps", self.steps, least=0)
        for name in ("tasks", "checkpoint_every"):
            check_count(name, getattr(self, name), least=1)
        if self.shard is not None:
            check_one_of("shard", self.shard, ("state",))

    def train(
        self, sampler: StagedSampler, key: Array, checkpoints: Checkpointer | None
    ) -> TrainState:
        """The state after all steps, those of the checkpoint it resumes included."""
        init_key, data_key = jax.random.split(key)
        state = self.begin(init_key)
        writer = None if checkpoints is None else FirstWrites(checkpoints)
        state, position = resumed(writer, state, self.steps)
        done = int(state.step)
        with ExitStack() as stack:
            if done < self.steps:
                source = opened(sampler, self.tasks, done=done, position=position)
                sampler = stack.enter_context(source)
            # Closed before the iterable: a thread may be reading it.
            runs = self.dispatches(sampler, state, data_key)
            stack.enter_context(closing(runs))
            for observer in self.observers:
                observer.start(state)
            if done == self.steps:
                if writer is not None and not done:
                    writer.save(state)
                return state
            # A run that began with the table's forms keeps them.
            choose = None if done else self.choose_forms(sampler, state, init_key)
            stack.enter_context(taking(forms_of(writer, choose)))
            save = stack.enter_context(saving(writer, sampler))
            return self.loop(state, runs, save)

    def begin(self, key: Array) -> TrainState:
        """The state before the first meta-step."""
        if self.shard is None:
            return init_state(self.learner, self.optimizer, key)
        devices = jax.device_count() if self.devices is None else self.devices
        return init_sharded(self.learner, self.optimizer, key, devices)

    def dispatches(self, sampler: StagedSampler, state: TrainState, key: Array) -> Runs:
        return dispatches(
            self.learner,
            self.optimizer,
            sampler,
            state,
            key,
            steps=self.steps,
            tasks=self.tasks,
            tasks_per_chunk=self.tasks_per_chunk,
            devices=self.devices,
            steps_per_call=self.steps_per_call,
            pause_every=self.checkpoint_every,
            make_step=self.own_step,
        )

    @property
    def own_step(self) -> MakeStep:
        """What makes the meta-step of a state that lies as this run's does."""
        return self.make_step if self.shard is None else ShardedStep(self.make_step)

    def choose_forms(
        self, sampler: StagedSampler, state: TrainState, key: Array
    ) -> Callable[[], Tuned] | None:
        """What times the forms of a meta-step; None for those of the table."""
        if self.tuner is None:
            return None
        how = self.own_step, self.tasks_per_chunk, self.devices
        step = kept_step(self.learner, self.optimizer, *how)
        one = partial(one_step, step, sampler, self.tasks)
        return partial(self.tuner, one, state, key)

    def loop(
        self,
        state: TrainState,
        runs: Runs,
        save: Save,
    ) -> TrainState:
        """What goes on between the dispatches."""
        self.check_stop(state, save)
        saved = time.monotonic()
        for state, metrics in saved_on_error(runs, save):
            for observer in self.observers:
                observer.record(state, metrics)
            # After the observers: what they did not see is done again on resuming.
            done = int(state.step)
            late = time.monotonic() - saved > SAVED_WITHIN
            if late or done % self.checkpoint_every == 0 or done == self.steps:
                save(state)
                saved = time.monotonic()
            if done < self.steps:
                self.check_stop(state, save)
        return state

    def check_stop(self, state: TrainState, save: Save) -> None:
        """Saves and ends the run if any process is asked to stop."""
        if any_says(self.stop()):
            save(state)
            done = int(state.step)
            raise StoppedError(
                f"stopped after {done} of {self.steps} meta-steps", state
            )
