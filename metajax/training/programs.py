"""The program of a dispatch, kept for as long as its learner is."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.constant import learnt
from metajax.data.sampling import StagedSampler
from metajax.data.staging import Drawn, staged
from metajax.training.cutting import Chunk, Devices, check_devices
from metajax.training.feeding import FetchedSteps
from metajax.training.state import TrainState
from metajax.training.step import MakeStep, Step
from metajax.types import (
    Array,
    Learner,
    LearnerSchedule,
    Metrics,
    PyTree,
    Sampler,
)

T = TypeVar("T")
KEPT = 16  # of a learner: a step and its dispatch, for each optimizer and so on
NAME = "_metajax_kept"


def kept_with(
    learner: Learner | LearnerSchedule,
    build: Callable[..., T],
    *args: Any,
    **kwargs: Any,
) -> T:
    """`build(*args, **kwargs)`, built once for a learner and equal arguments.

    What is built is an attribute of the learner's loss, which it refers to: so it goes
    when the learner goes, where a cache of the module would keep both alive.

    Args:
      learner: the learner.
      build: returns a function of the learner, such as a jitted one.
      *args: its arguments, hashable.
      **kwargs: more of them.

    >>> learner = Learner(*[lambda *_: 0] * 5)
    >>> kept_with(learner, list) is kept_with(learner, list)
    True
    """
    owner = learner.loss if isinstance(learner, Learner) else learner
    attributes = getattr(owner, "__dict__", None)
    if attributes is None:
        return build(*args, **kwargs)
    if NAME not in attributes:
        attributes[NAME] = lru_cache(KEPT)(lambda build, *a, **k: build(*a, **k))
    return attributes[NAME](build, *args, **kwargs)


def kept_step(
    learner: Learner | LearnerSchedule,
    optimizer: optax.GradientTransformation,
    make_step: MakeStep,
    tasks_per_chunk: Chunk,
    devices: Devices | None,
) -> Step:
    """The meta-step, the same for equal arguments: to fit again compiles nothing."""
    devices = jax.device_count() if devices is None else check_devices(devices)
    settings = dict(tasks_per_chunk=tasks_per_chunk, devices=devices)
    return kept_with(learner, make_step, learner, optimizer, **settings)


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
