"""Many meta-steps in one dispatch, and the dispatches of a run one after the other."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax._pytrees.constant import learnt
from metajax.checks import check_count
from metajax.data.checking import check_tasks
from metajax.data.opening import for_program, opened
from metajax.data.sampling import StagedSampler
from metajax.data.staging import Drawn, staged
from metajax.errors import NonFiniteError
from metajax.ops.estimate import written_bytes
from metajax.training.cutting import Chunk, check_chunk
from metajax.training.feeding import FetchedSteps, feed
from metajax.training.processes import place
from metajax.training.programs import kept_with
from metajax.training.state import TrainState
from metajax.training.step import Step, train_step
from metajax.types import (
    Array,
    Learner,
    LearnerSchedule,
    Metrics,
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
    devices: int | None = None,
    steps_per_call: int | None = None,
    pause_every: int | None = None,
) -> Iterator[tuple[TrainState, HostMetrics]]:
    """Trains from a state on, and gives the state and the metrics of each dispatch.

    `metajax.fit` is a loop over it. What a sampler fetches is fetched ahead.

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

    Yields:
      The state, whose arrays are donated to the next dispatch, and metrics with one
      entry a meta-step, NumPy arrays.

    Raises:
      InputError: as `metajax.fit`, at once.
      NonFiniteError: as `metajax.fit`, after the steps before it.
      OSError: if something cannot be fetched, after the steps before it.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> optimizer, keys = optax.adam(1e-3), jax.random.split(jax.random.key(0))
    >>> state = mj.init_state(learner, optimizer, keys[0])
    >>> runs = dispatches(
    ...     learner, optimizer, mj.data.sinusoid(), state, keys[1], steps=20, tasks=4,
    ...     steps_per_call=8,
    ... )
    >>> [(int(state.step), metrics["loss"].shape) for state, metrics in runs]
    [(8, (8,)), (16, (8,)), (20, (4,))]
    """
    check_chunk(tasks_per_chunk)
    counts = dict(tasks=tasks, steps=steps, steps_per_call=steps_per_call)
    for name, value in (counts | dict(pause_every=pause_every)).items():
        if value is not None:
            check_count(name, value, least=1)
    sampled = kept_step(
        learner, optimizer, tasks_per_chunk=tasks_per_chunk, devices=devices
    )
    ends = steps, steps_per_call, pause_every
    with ExitStack() as stack:
        done = int(state.step)
        sampler: StagedSampler = staged(episodes)
        if done < steps:
            sampler = stack.enter_context(opened(sampler, tasks, done=done))
            check_tasks(learner_at(learner, 0).loss, state.meta, sampler, tasks)
        run = _Run(learner, sampled, sampler, key, tasks, *ends)
        return run.dispatches(state, stack.pop_all())


def kept_step(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    *,
    tasks_per_chunk: Chunk,
    devices: int | None,
) -> Step:
    """`train_step`, the same for the same arguments: to fit again compiles nothing."""
    devices = jax.device_count() if devices is None else devices
    settings = dict(tasks_per_chunk=tasks_per_chunk, devices=devices)
    return kept_with(learner, train_step, learner, optimizer, **settings)


class _Run(NamedTuple):
    """What the dispatches of a run have in common."""

    learner: Learner | LearnerSchedule
    step: Step
    sampler: StagedSampler
    key: Array
    tasks: int
    steps: int
    steps_per_call: int | None
    pause_every: int | None

    def dispatches(
        self, state: TrainState, stack: ExitStack
    ) -> Iterator[tuple[TrainState, HostMetrics]]:
        """Those up to the last step; the stack is closed in the end."""
        with stack:
            if int(state.step) >= self.steps:
                return
            sampler, key, tasks = for_program(self.sampler), self.key, self.tasks
            fed = feed(self.sampler, key, tasks=tasks, most=self._most(state))
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

    def _most(self, state: TrainState) -> int:
        if self.steps_per_call is not None:
            return self.steps_per_call
        one = partial(one_step, self.step, self.sampler, self.tasks)
        work = written_bytes(one, state, jax.random.key(0))
        budget = CPU_BYTES if jax.default_backend() == "cpu" else OTHER_BYTES
        return next((steps for steps in STEPS if steps * work <= budget), 1)

    def _end(self, most: int, done: int) -> int:
        """Where the dispatch from `done` ends."""
        multiples = [n for n in (most, self.pause_every) if n is not None]
        return min(self.steps, *[(done // n + 1) * n for n in multiples])


def one_step(
    step: Step,
    episodes: StagedSampler,
    tasks: int,
    state: TrainState,
    key: Array,
    fetched: PyTree | None = None,
) -> tuple[TrainState, Metrics]:
    """A meta-step, sampling included, unless what tasks are made of is given."""
    if fetched is None:
        fetched = episodes.traced_fetch(episodes.draw(key, tasks))
    return step(state, Drawn(fetched, episodes))


def many_steps(step: Step, *, tasks: int, most: int) -> Any:
    """Compiles up to `most` meta-steps, sampling included, into one dispatch.

    Args:
      step: a meta-step, from `train_step`.
      tasks: tasks a meta-batch.
      most: the largest number of meta-steps of a call.

    Returns:
      `run(state, episodes, key, until, fetched=None) -> (state, metrics)`, jitted. It
      takes meta-steps until `state.step` is `until`, at most `most` of them, or until
      one is not finite; that one is not taken. `episodes` is a sampler, and `fetched`
      what it fetched for these meta-steps, if it was fetched ahead. `state` is donated.
      `metrics` has one entry a meta-step.
    """

    @partial(jax.jit, donate_argnums=0)
    def run(
        state: TrainState,
        episodes: Sampler,
        key: Array,
        until: Array,
        fetched: FetchedSteps | None = None,
    ):
        start, sampler = state.step, staged(episodes)

        def one(state: TrainState):
            own = jax.random.fold_in(key, state.step)
            ahead = None if fetched is None else fetched.at(state.step)
            return one_step(step, sampler, tasks, state, own, ahead)

        def body(carry):
            state, trace, _ = carry
            after, metrics = one(state)
            numbers = (metrics["loss"], metrics["gradient_norm"], learnt(after.meta))
            finite = jnp.all(
                jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(numbers)])
            )
            trace = jax.tree.map(
                lambda t, m: t.at[state.step - start].set(m), trace, metrics
            )
            state = jax.tree.map(partial(jnp.where, finite), after, state)
            return state, trace, finite

        def going(carry):
            state, _, finite = carry
            return finite & (state.step < jnp.minimum(until, start + most))

        trace = jax.tree.map(
            lambda x: jnp.zeros((most, *x.shape), x.dtype),
            jax.eval_shape(one, state)[1],
        )
        # A while loop where a scan would do: one program serves any number of steps,
        # and a bad step ends it.
        state, trace, _ = jax.lax.while_loop(
            going, body, (state, trace, jnp.array(True))
        )
        return state, trace

    return run


def _not_finite(state: TrainState, metrics: Mapping[str, np.ndarray]) -> NonFiniteError:
    step = int(state.step)
    bad = {name: float(metrics[name]) for name in ("loss", "gradient_norm")}
    return NonFiniteError(
        f"meta-step {step + 1} is not finite ({bad}); the state after step {step} is "
        "kept; lower the inner or the outer rate, or clip the outer gradient",
        state,
    )
