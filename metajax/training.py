"""The outer loop: one meta-step, and many of them in one dispatch."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax._updates import handed
from metajax.background import in_background
from metajax.errors import InputError, NonFiniteError, StoppedError
from metajax.estimate import written_bytes
from metajax.feeding import at, feed
from metajax.parallel import Chunk, check_chunk, mean_over_tasks, weighted_sum
from metajax.processes import FirstWrites, any_says, place
from metajax.sampling import Drawn, TaskSampler, task_sampler
from metajax.types import (
    Array,
    Episode,
    Learner,
    LearnerSchedule,
    Metrics,
    PyTree,
    Sampler,
    check_count,
    check_episodes,
    check_labels,
    check_seed,
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
    """Where `fit` saves; see `metajax.checkpoint.Checkpoints`."""

    def save(self, state: TrainState) -> None:
        """Saves `state`, of numpy arrays, wholly or not at all.

        `fit` calls it from a thread of its own, one state at a time.
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
    opt_state = jax.tree.map(jnp.array, optimizer.init(meta))
    return TrainState(meta, opt_state, jnp.zeros((), jnp.int32))


def meta_gradient(
    learner: Learner | LearnerSchedule,
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: int = 1,
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
        little to do. Of several processes, all of them or 1.

    Returns:
      A pure function of the meta-parameters, a meta-batch of B tasks and, for a
      schedule, the number of meta-steps done. Loss and metrics are averaged over the
      tasks.

    Raises:
      InputError: if `tasks_per_chunk` or `devices` is below 1.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> meta, episodes = learner.init(jax.random.key(0)), mj.data.sinusoid()
    >>> gradient = jax.jit(meta_gradient(learner))
    >>> (loss, metrics), found = gradient(meta, episodes(jax.random.key(1), 4))
    """

    def batch_loss(meta: PyTree, step: Array, episodes: Episode, weights: Array):
        loss = learner_at(learner, step).loss
        losses, metrics = jax.vmap(loss, (None, 0))(meta, episodes)

        mean = partial(weighted_sum, weights)
        return mean(losses), jax.tree.map(mean, metrics)

    def one_chunk(shared: tuple[PyTree, Array], episodes: Episode, weights: Array):
        differentiate = jax.value_and_grad(batch_loss, has_aux=True)
        return differentiate(*shared, episodes, weights)

    run = mean_over_tasks(one_chunk, tasks_per_chunk=tasks_per_chunk, devices=devices)

    def gradient(meta: PyTree, episodes: Episode | Drawn, step: Array | int = 0):
        return run((meta, jnp.asarray(step, jnp.int32)), episodes)

    return gradient


def train_step(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: int = 1,
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
        args, told = (
            (grads, state.opt_state, state.meta),
            {"value": loss, "grad": grads},
        )
        updates, opt_state = handed(optimizer, args, told)
        meta = optax.apply_updates(state.meta, updates)
        norm = optax.tree.norm(grads)
        metrics = {**metrics, "loss": loss, "gradient_norm": norm}
        return TrainState(meta, opt_state, state.step + 1), metrics

    return step


# One function for the same arguments, so that to fit once more compiles nothing.
_train_step = lru_cache(maxsize=PROGRAMS)(train_step)


def fit(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    episodes: Sampler,
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
) -> TrainState:
    """Meta-trains a learner: many meta-steps a dispatch, sampling included.

    A `metajax.data.Stream` is read ahead, while the device is busy.

    All randomness comes from `fold_in(seed, step)`, so a run that is stopped at any
    moment and started again with the same arguments, checkpoints and devices ends in
    the same parameters, bit for bit.

    Args:
      learner: the learner, or a schedule of them.
      optimizer: the outer optimizer.
      episodes: `episodes(key, tasks) -> Episode`, called inside jit.
      steps: meta-steps in all, those of a resumed run included.
      tasks: tasks a meta-batch.
      seed: of the initial parameters and of every episode.
      tasks_per_chunk: see `meta_gradient`.
      devices: see `meta_gradient`; all of all processes by default.
      steps_per_call: meta-steps a dispatch, which nothing interrupts; by default as
        many as should take seconds, at most 100.
      checkpoints: where to save and to resume from; `metajax.checkpoint.Checkpoints`.
        Writing goes on while the next dispatch runs, and is waited for in the end.
      checkpoint_every: meta-steps between checkpoints, of which one more is saved where
        they take over ten minutes; the last step is always saved.
      observers: told of the metrics after each dispatch.
      stop: asked before each dispatch whether to save and stop; a signal's flag, say.

    Several processes (`jax.distributed.initialize`) call it alike and train as one.
    Only the first reads and writes checkpoints, and tells the others what it restored;
    all stop if one is asked to. Each tells its own observers: give what writes files to
    the first alone (`jax.process_index() == 0`).

    Returns:
      The final state.

    Raises:
      InputError: for numbers below 1, episodes of the wrong shape, labels that the
        model has no output for (in one sampled episode), or a checkpoint past `steps`;
        before the training is compiled.
      NonFiniteError: if a loss, a gradient or a meta-parameter would be infinite or
        NaN. The last good state is saved, and is the error's `state`.
      StoppedError: if `stop` said so. The state is saved, and is the error's `state`.
      OSError: if images of a stream cannot be read.

    >>> import metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> state = fit(learner, optax.adam(1e-3), mj.data.sinusoid(), steps=20, tasks=4)
    >>> int(state.step)
    20
    """
    counts = dict(steps=steps, tasks=tasks, checkpoint_every=checkpoint_every)
    for name, value in counts.items():
        check_count(name, value, least=1)
    if steps_per_call is not None:
        check_count("steps_per_call", steps_per_call, least=1)
    check_seed("seed", seed)
    check_chunk(tasks_per_chunk)
    step = _train_step(
        learner,
        optimizer,
        tasks_per_chunk=tasks_per_chunk,
        devices=jax.device_count() if devices is None else devices,
    )
    init_key, data_key = jax.random.split(jax.random.key(seed))
    state = init_state(learner, optimizer, init_key)
    episodes = task_sampler(episodes)
    check_task(learner_at(learner, 0), state.meta, episodes, tasks)
    checkpoints = None if checkpoints is None else FirstWrites(checkpoints)
    if checkpoints is not None and (restored := checkpoints.restore(state)):
        state = restored
        if int(state.step) > steps:
            raise InputError(
                f"the checkpoint is at step {int(state.step)}, past the {steps} asked "
                "for; ask for more steps or use another folder"
            )
    for observer in observers:
        observer.start(state)

    if int(state.step) == steps:
        return state
    most = steps_per_call or _steps_per_call(step, state, episodes, tasks)
    fed = feed(episodes, data_key, tasks=tasks, most=most)
    run = many_steps(step, tasks=tasks, most=fed.most)
    dispatch = run.lower(state, fed.like, data_key, steps).compile()
    # Where the program wants them, or the first call would differ from all others.
    places = dispatch.input_shardings[0]
    state, data_key = place((state, data_key), (places[0], places[2]))

    def end(done: int) -> int:
        return min(_next(done, fed.most), _next(done, checkpoint_every), steps)

    with (
        fed.samplers(int(state.step), end, places[1]) as samplers,
        _saving(checkpoints) as save,
    ):
        saved = time.monotonic()
        while (done := int(state.step)) < steps:
            if any_says(stop()):
                save(state)
                raise StoppedError(f"stopped after {done} of {steps} meta-steps", state)
            until = end(done)
            state, metrics = dispatch(state, next(samplers), data_key, until)
            reached = int(state.step)
            metrics = {name: np.asarray(x) for name, x in metrics.items()}
            taken = {name: x[: reached - done] for name, x in metrics.items()}
            if reached > done:
                for observer in observers:
                    observer.record(state, taken)
            # After the observers: what they were not told of is done again on resuming.
            stopped = reached < until
            late = time.monotonic() - saved > SAVED_WITHIN
            if reached % checkpoint_every == 0 or reached == steps or stopped or late:
                save(state)
                saved = time.monotonic()
            if stopped:
                bad = {n: x[reached - done] for n, x in metrics.items()}
                raise _not_finite(state, bad)
    return state


@contextmanager
def _saving(checkpoints: Checkpointer | None) -> Iterator[Callable[[TrainState], None]]:
    """A function that saves while the next dispatch runs; the last is waited for."""
    if checkpoints is None:
        yield lambda state: None
        return
    with in_background(checkpoints.save) as save:
        # A copy: the next dispatch takes the arrays.
        yield lambda state: save(jax.tree.map(np.array, state))


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
      `metajax.feeding` has of it for these meta-steps. `state` is donated. `metrics`
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
            numbers = (metrics["loss"], metrics["gradient_norm"], after.meta)
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
    learner: Learner, meta: PyTree, episodes: Sampler, tasks: int
) -> Episode:
    """Checks that a learner can take a sampler's episodes, on one that it samples.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      episodes: the sampler.
      tasks: tasks a meta-batch.

    Returns:
      The meta-batch of one that it sampled.

    Raises:
      InputError: for wrong shapes, or labels that the model has no output for.
    """
    key = jax.random.key(0)
    check_episodes(jax.eval_shape(lambda: episodes(key, tasks)), tasks)
    sample = episodes(key, 1)

    def outputs(meta: PyTree, episode: Episode):
        return learner.predict(
            learner.adapt(meta, episode.support), episode.query.inputs
        )

    one = jax.tree.map(lambda x: x[0], sample)
    predicted = jax.eval_shape(outputs, meta, one)
    check_labels(sample.support.targets, predicted)
    check_labels(sample.query.targets, predicted)
    return sample


def _steps_per_call(
    step: Step, state: TrainState, episodes: TaskSampler, tasks: int
) -> int:
    def one(state: TrainState, key: Array):
        return step(state, Drawn(episodes.draw(key, tasks), episodes))

    work = written_bytes(one, state, jax.random.key(0))
    budget = CPU_BYTES if jax.default_backend() == "cpu" else OTHER_BYTES
    return next((steps for steps in STEPS if steps * work <= budget), 1)


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
