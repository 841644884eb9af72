"""The outer loop: one meta-step, and many of them in one dispatch."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax._autodiff.optimizers import handed
from metajax._pytrees.constant import completed, learnt
from metajax.checks import check_count, check_seed
from metajax.data.iterables import opened, position_of
from metajax.data.purity import check_sampler
from metajax.data.sampling import Drawn, TaskSampler, as_drawn, task_sampler
from metajax.data.single import one_target
from metajax.errors import InputError, NonFiniteError, StoppedError
from metajax.ops import taking
from metajax.ops.estimate import written_bytes
from metajax.training.background import in_background
from metajax.training.cutting import (
    Chunk,
    Cut,
    Devices,
    check_chunk,
    cut,
    everywhere,
    length,
    weighted_work,
)
from metajax.training.feeding import at, feed
from metajax.training.parallel import mean_over_tasks, weighted_sum
from metajax.training.processes import FirstWrites, any_says, place
from metajax.training.tuned import Tuner, forms_of, tuner_of
from metajax.types import (
    Array,
    Batch,
    Episode,
    Learner,
    LearnerSchedule,
    Metrics,
    PyTree,
    Sampler,
    learner_at,
)

PROGRAMS = 8  # of `fit`, kept compiled
# Meta-steps of a dispatch by default, and what it writes, which takes seconds: nothing
# stops it. Round numbers, as other devices should cut a run into the same dispatches.
STEPS = (100, 50, 20, 10, 5, 2)
CPU_BYTES, OTHER_BYTES = 1e11, 1e13
SAVED_WITHIN = 600.0  # seconds, and a dispatch


class TrainState(NamedTuple):
    """All that training carries from one meta-step to the next.

    Attributes:
      meta: the meta-parameters.
      opt_state: the outer optimizer's state.
      step: the number of meta-steps done, `int32[]`.
    """

    meta: PyTree
    opt_state: optax.OptState
    step: Array


class Observer(Protocol):
    """Something that `fit` tells of its progress."""

    def start(self, state: TrainState) -> None:
        """Training begins, or resumes, from `state`."""
        ...

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """A dispatch ended in `state`; `metrics` has one entry a meta-step of it.

        The arrays of `state` are valid during this call only: they are donated after.
        """
        ...


class Checkpointer(Protocol):
    """Where `fit` saves; see `metajax.Checkpoints`."""

    def save(self, state: TrainState) -> None:
        """Saves `state`, of numpy arrays, wholly or not at all.

        `fit` calls it from a thread of its own, one state at a time. Where meta-batches
        come from an iterator with a state, it is given as a second argument, a string,
        if there is a method `position(step)` to ask for it.
        Tuned forms are given to `keep_forms(tuned)`, if there is such a method, and
        asked for by `forms()`.
        """
        ...

    def restore(self, like: TrainState) -> TrainState | None:
        """The newest whole state, of the structure of `like`, or None."""
        ...


Step = Callable[[TrainState, Episode | Drawn], tuple[TrainState, Metrics]]


def init_state(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    key: Array,
) -> TrainState:
    """The state before the first meta-step.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer.
      key: a PRNG key.

    Returns:
      A `TrainState` at step 0.
    """
    # Copies: a training loop may donate them, and `init` may return arrays of its own.
    meta = jax.tree.map(jnp.array, learner_at(learner, 0).init(key))
    opt_state = jax.tree.map(jnp.array, optimizer.init(learnt(meta)))
    return TrainState(meta, opt_state, jnp.zeros((), jnp.int32))


def meta_gradient(
    learner: Learner | LearnerSchedule,
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices = 1,
) -> Callable[..., tuple[tuple[Array, Metrics], PyTree]]:
    """Builds `gradient(meta, episodes, step=0) -> ((loss, metrics), gradient)`.

      ∇_θ (1/B) Σ_i loss(θ, episode_i)

    Args:
      learner: the learner, or a schedule of them.
      tasks_per_chunk: how many tasks are vmapped at a time, at most; the gradients of
        the chunks are summed, so memory grows with the chunk and not with the
        meta-batch. "auto" takes as many as stay in cache on a CPU and as many as fit in
        memory elsewhere; None takes all, as a meta-batch needs that you have sharded
        yourself.
      devices: at most so many devices share the tasks; fewer where they would have too
        little to do. Of several processes, all of them or 1. Or the devices themselves,
        such as absent ones to compile for (`metajax.targets.devices`).

    Returns:
      A pure function of the meta-parameters, a meta-batch of B tasks and, for a
      schedule, the number of meta-steps done. Loss and metrics are averaged over the
      tasks. The gradient has None in place of each `metajax.Constant`.

    Raises:
      InputError: if `tasks_per_chunk` or `devices` is below 1.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> meta, episodes = learner.init(jax.random.key(0)), mj.data.sinusoid()
    >>> gradient = jax.jit(meta_gradient(learner))
    >>> (loss, metrics), found = gradient(meta, episodes(jax.random.key(1), 4))
    """
    one_chunk = _of_chunk(learner)
    run = mean_over_tasks(one_chunk, tasks_per_chunk=tasks_per_chunk, devices=devices)

    def gradient(meta: PyTree, episodes: Episode | Drawn, step: Array | int = 0):
        return run((meta, jnp.asarray(step, jnp.int32)), episodes)

    return gradient


def cut_of(
    learner: Learner | LearnerSchedule,
    meta: PyTree,
    episodes: Episode | Drawn,
    tasks_per_chunk: Chunk,
    devices: Devices,
) -> Cut:
    """How `meta_gradient` cuts a meta-batch, abstract or not.

    Args:
      learner: see there.
      meta: the meta-parameters.
      episodes: the meta-batch.
      tasks_per_chunk: see there.
      devices: see there.
    """
    shared = (meta, jax.eval_shape(lambda: jnp.zeros((), jnp.int32)))
    work = weighted_work(_of_chunk(learner), shared, episodes)
    tasks = length(as_drawn(episodes).tasks)
    return cut(tasks, work, tasks_per_chunk, everywhere(devices))


def _of_chunk(learner: Learner | LearnerSchedule) -> Callable[..., Any]:
    """Loss, metrics and gradient of a chunk, for `mean_over_tasks`."""

    def batch_loss(meta: PyTree, step: Array, episodes: Episode, weights: Array):
        loss = learner_at(learner, step).loss
        losses, metrics = jax.vmap(loss, (None, 0))(meta, episodes)

        mean = partial(weighted_sum, weights)
        return mean(losses), jax.tree.map(mean, metrics)

    def one_chunk(shared: tuple[PyTree, Array], episodes: Episode, weights: Array):
        meta, step = shared

        def of_part(part: PyTree) -> tuple[Array, Metrics]:
            return batch_loss(completed(part, meta), step, episodes, weights)

        return jax.value_and_grad(of_part, has_aux=True)(learnt(meta))

    return one_chunk


def train_step(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices = 1,
) -> Step:
    """Builds `step(state, episodes) -> (state, metrics)`, one meta-step.

      θ ← θ + u(∇_θ (1/B) Σ_i loss(θ, episode_i))

    It is not jitted: the loop, the jit and the donation are yours.

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
    >>> state = init_state(learner, optimizer, jax.random.key(0))
    >>> state, metrics = step(state, mj.data.sinusoid()(jax.random.key(1), 4))
    >>> int(state.step), sorted(metrics)
    (1, ['gradient_norm', 'loss'])
    """
    gradient = meta_gradient(learner, tasks_per_chunk=tasks_per_chunk, devices=devices)

    def step(state: TrainState, episodes: Episode | Drawn):
        (loss, metrics), grads = gradient(state.meta, episodes, state.step)
        part = learnt(state.meta)
        offers = {"value": loss, "grad": grads}
        updates, opt_state = handed(optimizer, (grads, state.opt_state, part), offers)
        meta = completed(optax.apply_updates(part, updates), state.meta)
        norm = optax.tree.norm(grads)
        metrics = {**metrics, "loss": loss, "gradient_norm": norm}
        return TrainState(meta, opt_state, state.step + 1), metrics

    return step


# One function for the same arguments, so that to fit once more compiles nothing.
_train_step = lru_cache(maxsize=PROGRAMS)(train_step)


def fit(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    episodes: Sampler | Iterable[Episode],
    *,
    steps: int,
    tasks: int,
    seed: int = 0,
    tasks_per_chunk: Chunk = "auto",
    devices: int | None = None,
    steps_per_call: int | None = None,
    checkpoints: Checkpointer | None = None,
    checkpoint_every: int = 500,
    observers: Sequence[Observer] = (),
    stop: Callable[[], bool] = lambda: False,
    forms: Literal["table", "tuned"] | Tuner = "table",
) -> TrainState:
    """Meta-trains a learner: many meta-steps a dispatch, sampling included.

    A `metajax.data.Stream` and an iterable are read ahead, while the device is busy.

    All randomness comes from `fold_in(seed, step)`, so a run that is stopped at any
    moment and started again with the same arguments, checkpoints and devices ends in
    the same parameters, bit for bit. So does one of an iterable that can go on from
    where it was: an iterator with `get_state` and `set_state`, as grain's, is saved
    with the checkpoint; `metajax.data.from_step` says where to begin; no other resumes.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer.
      episodes: a sampler, `episodes(key, tasks) -> Episode`, called inside jit, all of
        whose randomness must come from the key; or an iterable of meta-batches, each an
        `Episode` of arrays on the host with a leading axis of `tasks`: a torch or grain
        loader, a generator, a list. One that ends begins again, if it can.
      steps: meta-steps in all, those of a resumed run included.
      tasks: tasks a meta-batch.
      seed: of the initial parameters and of every episode.
      tasks_per_chunk: see `meta_gradient`.
      devices: see `meta_gradient`; all of all processes by default.
      steps_per_call: meta-steps a dispatch, which nothing interrupts; by default as
        many as should take seconds, at most 100.
      checkpoints: where to save and to resume from; `metajax.Checkpoints`.
        What is there is gone on from, whatever the seed and the settings were: give
        each run a folder of its own.
        Writing goes on while the next dispatch runs, and is waited for in the end.
      checkpoint_every: meta-steps between checkpoints, of which one more is saved where
        they take over ten minutes; the last step is always saved.
      observers: told of the metrics after each dispatch.
      stop: asked before each dispatch whether to save and stop; a signal's flag, say.
      forms: how metajax's operations are computed: by the "table"
        (`metajax.ops.forms`), or "tuned": each in the form that is fastest on this
        device, timed before the first meta-step. Or your own `tune(function, *args)`,
        such as `functools.partial(metajax.ops.tune, folder=...)`. Answers are kept for
        other runs in the user's cache folder, and with the checkpoints: a resumed run
        takes the forms that it began with, whatever is asked for.

    Several processes (`jax.distributed.initialize`) call it alike and train as one.
    Only the first reads and writes checkpoints, and tells the others what it restored;
    all stop if one is asked to. Each tells its own observers: give what writes files to
    the first alone (`jax.process_index() == 0`).

    Returns:
      The final state.

    Raises:
      InputError: for numbers below 1, episodes of the wrong shape, a sampler that does
        not use its key, labels that the model has no output for (in one sampled
        episode), a checkpoint past `steps`, or an iterable that cannot go on from one;
        before the training is compiled. If an iterable ends, or its meta-batches change
        their form, after the state before is saved.
      NonFiniteError: if a loss, a gradient or a meta-parameter would be infinite or
        NaN. The last good state is saved, and is the error's `state`.
      StoppedError: if `stop` said so. The state is saved, and is the error's `state`.
      OSError: if images of a stream, or an iterable, cannot be read. The last good
        state is saved.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> state = fit(learner, optax.adam(1e-3), mj.data.sinusoid(), steps=20, tasks=4)
    >>> int(state.step)
    20

    A list of meta-batches, as a loader that gives them:

    >>> batches = [mj.data.sinusoid()(jax.random.key(i), 4) for i in range(3)]
    >>> int(fit(learner, optax.adam(1e-3), batches, steps=20, tasks=4).step)
    20
    """
    counts = dict(steps=steps, tasks=tasks, checkpoint_every=checkpoint_every)
    for name, value in counts.items():
        check_count(name, value, least=1)
    if steps_per_call is not None:
        check_count("steps_per_call", steps_per_call, least=1)
    check_seed("seed", seed)
    check_chunk(tasks_per_chunk)
    tuner = tuner_of(forms)
    step = _train_step(
        learner,
        optimizer,
        tasks_per_chunk=tasks_per_chunk,
        devices=jax.device_count() if devices is None else devices,
    )
    init_key, data_key = jax.random.split(jax.random.key(seed))
    state = init_state(learner, optimizer, init_key)
    checkpoints = None if checkpoints is None else FirstWrites(checkpoints)
    state, position = _resumed(checkpoints, state, steps)
    done = int(state.step)

    with ExitStack() as stack:
        sampler = task_sampler(episodes)
        if done < steps:
            source = opened(sampler, tasks, done=done, position=position)
            sampler = stack.enter_context(source)
            check_task(learner_at(learner, 0).loss, state.meta, sampler, tasks)
        for observer in observers:
            observer.start(state)

        if done == steps:
            return state
        one = partial(_one_step, step, sampler, tasks)
        timed = None if tuner is None else partial(tuner, one, state, init_key)
        choose = timed if done == 0 else None  # one that began by the table stays so
        stack.enter_context(taking(forms_of(checkpoints, choose)))
        most = steps_per_call or _steps_per_call(step, state, sampler, tasks)
        fed = feed(sampler, data_key, tasks=tasks, most=most)
        run = many_steps(step, tasks=tasks, most=fed.most)
        dispatch = run.lower(state, fed.like, data_key, steps).compile()
        # Where the program wants them, or the first call would differ from all others.
        places = dispatch.input_shardings[0]
        state, data_key = place((state, data_key), (places[0], places[2]))

        def end(done: int) -> int:
            return min(_next(done, fed.most), _next(done, checkpoint_every), steps)

        samplers = stack.enter_context(fed.samplers(done, end, places[1]))
        save = stack.enter_context(_saving(checkpoints, partial(position_of, sampler)))
        loop = _Loop(dispatch, data_key, steps, checkpoint_every, observers, stop)
        return loop.run(state, samplers, save)


class _Loop(NamedTuple):
    """The dispatches of a run, and what goes on between them."""

    dispatch: Callable[..., tuple[TrainState, Metrics]]
    key: Array
    steps: int
    checkpoint_every: int
    observers: Sequence[Observer]
    stop: Callable[[], bool]

    def run(
        self,
        state: TrainState,
        samplers: Iterator[tuple[int, Sampler]],
        save: Callable[[TrainState], None],
    ) -> TrainState:
        """The state after all steps."""
        saved = time.monotonic()
        while (done := int(state.step)) < self.steps:
            if any_says(self.stop()):
                save(state)
                told = f"stopped after {done} of {self.steps} meta-steps"
                raise StoppedError(told, state)
            try:
                until, sampler = next(samplers)
            except Exception:  # of the data: what was learnt from those before is kept
                save(state)
                raise
            state, metrics = self.dispatch(state, sampler, self.key, until)
            reached = int(state.step)
            metrics = {name: np.asarray(x) for name, x in metrics.items()}
            self._tell(
                state, {name: x[: reached - done] for name, x in metrics.items()}
            )
            # After the observers: what they were not told of is done again on resuming.
            late = time.monotonic() - saved > SAVED_WITHIN
            if late or reached < until or self._is_due(reached):
                save(state)
                saved = time.monotonic()
            if reached < until:
                bad = {n: x[reached - done] for n, x in metrics.items()}
                raise _not_finite(state, bad)
        return state

    def _tell(self, state: TrainState, taken: Mapping[str, np.ndarray]) -> None:
        if len(taken["loss"]):
            for observer in self.observers:
                observer.record(state, taken)

    def _is_due(self, step: int) -> bool:
        return step % self.checkpoint_every == 0 or step == self.steps


def _resumed(
    checkpoints: FirstWrites | None, state: TrainState, steps: int
) -> tuple[TrainState, str | None]:
    """The state to begin from, and the position of its iterator, if it has one."""
    restored = None if checkpoints is None else checkpoints.restore(state)
    if checkpoints is None or not restored:
        return state, None
    if (done := int(restored.step)) > steps:
        raise InputError(
            f"the checkpoint is at step {done}, past the {steps} asked "
            "for; ask for more steps or use another folder"
        )
    return restored, checkpoints.position(done)


@contextmanager
def _saving(
    checkpoints: FirstWrites | None, position: Callable[[int], str | None]
) -> Iterator[Callable[[TrainState], None]]:
    """A function that saves while the next dispatch runs; the last is waited for."""
    if checkpoints is None:
        yield lambda state: None
        return

    def write(saved: tuple[TrainState, str | None]) -> None:
        checkpoints.save(*saved)

    with in_background(write) as save:
        # A copy: the next dispatch takes the arrays.
        yield lambda state: save(
            (jax.tree.map(np.array, state), position(int(state.step)))
        )


@lru_cache(maxsize=PROGRAMS)
def many_steps(step: Step, *, tasks: int, most: int) -> Any:
    """Compiles up to `most` meta-steps, sampling included, into one dispatch.

    Args:
      step: a meta-step, from `train_step`.
      tasks: tasks a meta-batch.
      most: the largest number of meta-steps of a call.

    Returns:
      `run(state, episodes, key, until) -> (state, metrics)`, jitted. It takes
      meta-steps until `state.step` is `until`, at most `most` of them, or until one is
      not finite; that one is not taken. `episodes` is a sampler, or what
      `feeding` has of it for these meta-steps. `state` is donated. `metrics`
      has one entry a meta-step.
    """

    @partial(jax.jit, donate_argnums=0)
    def run(state: TrainState, episodes: Sampler, key: Array, until: Array):
        start = state.step

        def one(state: TrainState):
            sampler = task_sampler(at(episodes, state.step))
            drawn = sampler.draw(jax.random.fold_in(key, state.step), tasks)
            return step(state, Drawn(drawn, sampler))

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


def check_task(
    judge: Callable[[PyTree, Episode], Any],
    meta: PyTree,
    episodes: Sampler,
    tasks: int,
) -> Episode:
    """Checks that a learner can take a sampler's episodes, on one that it samples.

    Args:
      judge: `judge(meta, episode)`, the loss or the metrics of one task, which check
        the targets that they are given.
      meta: the meta-parameters.
      episodes: the sampler.
      tasks: tasks a meta-batch.

    Returns:
      A meta-batch of one, abstract.

    Raises:
      InputError: for wrong shapes, a sampler that does not use its key, or targets that
        the loss refuses, such as labels that the model has no output for.
    """
    check_sampler(episodes, tasks)
    sample = jax.eval_shape(lambda key: episodes(key, 1), jax.random.key(0))
    targets = one_target(episodes)

    def of_one(meta: PyTree, sample: Episode) -> Any:
        inputs = [jax.tree.map(lambda x: x[0], batch.inputs) for batch in sample]
        return judge(meta, Episode(*map(Batch, inputs, targets)))

    # Traced with the targets at hand: a loss can look at those that have values.
    jax.eval_shape(of_one, meta, sample)
    return sample


def _steps_per_call(
    step: Step, state: TrainState, episodes: TaskSampler, tasks: int
) -> int:
    one = partial(_one_step, step, episodes, tasks)
    work = written_bytes(one, state, jax.random.key(0))
    budget = CPU_BYTES if jax.default_backend() == "cpu" else OTHER_BYTES
    return next((steps for steps in STEPS if steps * work <= budget), 1)


def _one_step(
    step: Step, episodes: TaskSampler, tasks: int, state: TrainState, key: Array
) -> tuple[TrainState, Metrics]:
    """A meta-step, sampling included."""
    return step(state, Drawn(episodes.draw(key, tasks), episodes))


def _next(step: int, multiple: int) -> int:
    return (step // multiple + 1) * multiple


def _not_finite(state: TrainState, metrics: Mapping[str, np.ndarray]) -> NonFiniteError:
    step = int(state.step)
    bad = {name: float(metrics[name]) for name in ("loss", "gradient_norm")}
    return NonFiniteError(
        f"meta-step {step + 1} is not finite ({bad}); the state after step {step} is "
        "kept; lower the inner or the outer rate, or clip the outer gradient",
        state,
    )
