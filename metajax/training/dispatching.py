"""Many meta-steps in one dispatch, and the dispatches of a run one after the other."""

from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax

from metajax.checks import check_count
from metajax.data.checking import check_tasks
from metajax.data.opening import for_program, needs_opening, opened
from metajax.data.sampling import StagedSampler
from metajax.data.staging import staged
from metajax.errors import NonFiniteError
from metajax.ops.estimate import written_bytes
from metajax.training.cutting import Chunk, Devices, check_chunk
from metajax.training.feeding import feed
from metajax.training.processes import place
from metajax.training.programs import kept_step, kept_with, many_steps, one_step
from metajax.training.state import TrainState
from metajax.training.step import MakeStep, Step, train_step
from metajax.types import (
    Array,
    Learner,
    LearnerSchedule,
    PyTree,
    Sampler,
    learner_at,
)

# Meta-steps of a dispatch by default, and what it writes, which takes seconds: nothing
# stops it. Round numbers, as other devices should cut a run into the same dispatches.
STEPS = (100, 50, 20, 10, 5, 2)
CPU_BYTES, OTHER_BYTES = 1e11, 1e13
HostMetrics = Mapping[str, np.ndarray]


def dispatches(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    episodes: Sampler | Iterable[PyTree],
    state: TrainState,
    key: Array,
    *,
    steps: int,
    tasks: int,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices | None = None,
    steps_per_call: int | None = None,
    pause_every: int | None = None,
    make_step: MakeStep = train_step,
) -> Generator[tuple[TrainState, HostMetrics]]:
    """Trains from a state on, and gives the state and the metrics of each dispatch.

    `metajax.fit` is a loop over it. What a sampler fetches is fetched ahead. The first
    `next` opens an iterable, and checks its tasks; `close` ends it early.

    Args:
      learner: see `metajax.fit`.
      optimizer: see `metajax.fit`.
      episodes: see `metajax.fit`.
      state: where to begin; its arrays are donated.
      key: meta-step s draws its tasks with `fold_in(key, s)`.
      steps: meta-steps in all, those done before included.
      tasks: tasks a meta-batch.
      tasks_per_chunk: see `metajax.meta_gradient`.
      devices: see `metajax.meta_gradient`; all by default.
      steps_per_call: meta-steps a dispatch; see `metajax.fit`.
      pause_every: a dispatch ends at every multiple of it.
      make_step: see `metajax.fit`.

    Yields:
      The state, donated to the next dispatch, and metrics with one entry a meta-step.

    Raises:
      InputError: if an argument is out of range, or the learner cannot take the tasks.
      NonFiniteError: if a loss, gradient or meta-parameter is infinite or NaN.
      OSError: if data cannot be read. This and the one above are raised after the
        meta-steps before the bad one.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> key, optimizer, waves = jax.random.key(0), optax.sgd(0.1), mj.data.sinusoid()
    >>> state = mj.init_state(learner, optimizer, key)
    >>> runs = dispatches(learner, optimizer, waves, state, key, steps=20, tasks=4)
    >>> [(int(state.step), metrics["loss"].shape) for state, metrics in runs]
    [(20, (20,))]
    """
    check_chunk(tasks_per_chunk)
    step = kept_step(learner, optimizer, make_step, tasks_per_chunk, devices)
    run = _Run(learner, step, key, tasks, steps, steps_per_call, pause_every)
    run.check()
    sampler: StagedSampler = staged(episodes)
    if not (opens := needs_opening(sampler)):
        run.check_tasks(sampler, state)
    return run.dispatches(sampler, state, opens)


class _Run(NamedTuple):
    """What the dispatches of a run have in common."""

    learner: Learner | LearnerSchedule
    step: Step
    key: Array
    tasks: int
    steps: int
    steps_per_call: int | None
    pause_every: int | None

    def check(self) -> None:
        check_count("steps", self.steps, least=0)
        for name in ("tasks", "steps_per_call", "pause_every"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value, least=1)

    def check_tasks(self, sampler: StagedSampler, state: TrainState) -> None:
        if int(state.step) < self.steps:
            loss = learner_at(self.learner, 0).loss
            check_tasks(loss, state.meta, sampler, self.tasks)

    def dispatches(
        self, source: StagedSampler, state: TrainState, opens: bool
    ) -> Generator[tuple[TrainState, HostMetrics]]:
        """Those up to the last step; what is opened here is closed in the end."""
        if (done := int(state.step)) >= self.steps:
            return
        with ExitStack() as stack:
            source = stack.enter_context(opened(source, self.tasks, done=done))
            if opens:
                self.check_tasks(source, state)
            sampler, key, tasks = for_program(source), self.key, self.tasks
            fed = feed(source, key, tasks=tasks, most=self._most(source, state))
            run = kept_with(
                self.learner, many_steps, self.step, tasks=tasks, most=fed.most
            )
            program = run.lower(state, sampler, key, self.steps, fed.like).compile()
            # Where the program wants them, or the first call would differ from others.
            places = program.input_shardings[0]
            state, sampler, key = place((state, sampler, key), places[:3])

            end = partial(self._end, fed.most)
            fetching = fed.dispatches(int(state.step), end, places[4])
            for until, fetched in stack.enter_context(fetching):
                done = int(state.step)
                state, traced = program(state, sampler, key, until, fetched)
                reached = int(state.step)
                metrics = {name: np.asarray(x) for name, x in traced.items()}
                if reached > done:
                    yield state, {n: x[: reached - done] for n, x in metrics.items()}
                if reached < until:
                    bad = {n: x[reached - done] for n, x in metrics.items()}
                    raise _not_finite(state, bad)

    def _most(self, sampler: StagedSampler, state: TrainState) -> int:
        if self.steps_per_call is not None:
            return self.steps_per_call
        one = partial(one_step, self.step, sampler, self.tasks)
        work = written_bytes(one, state, jax.random.key(0))
        budget = CPU_BYTES if jax.default_backend() == "cpu" else OTHER_BYTES
        return next((steps for steps in STEPS if steps * work <= budget), 1)

    def _end(self, most: int, done: int) -> int:
        """Where the dispatch from `done` ends."""
        multiples = [n for n in (most, self.pause_every) if n is not None]
        return min(self.steps, *[(done // n + 1) * n for n in multiples])


def _not_finite(state: TrainState, metrics: Mapping[str, np.ndarray]) -> NonFiniteError:
    step = int(state.step)
    bad = {name: float(metrics[name]) for name in ("loss", "gradient_norm")}
    return NonFiniteError(
        f"meta-step {step + 1} is not finite ({bad}); the state after step {step} is "
        "kept; lower the inner or the outer rate, or clip the outer gradient",
        state,
    )
