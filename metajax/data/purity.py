"""What a sampler's program depends on: its key, and nothing drawn outside of JAX."""

import pickle
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from metajax._autodiff.jaxprs import inputs_read
from metajax._autodiff.programs import (
    constant_bytes,
    program_constants,
    program_text,
)
from metajax.data.opening import open_iterable
from metajax.data.sampling import innermost
from metajax.errors import InputError
from metajax.types import Array, Sampler

INSTEAD = (
    "draw with jax.random and the key, or give an iterable of meta-batches, such as a "
    "DataLoader or a generator, in place of a sampler"
)
NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
# In another of its values, jitted functions are traced again.
AGAIN = jax.make_user_context(default_value=None)
FEW, MANY = 2, 32  # more traces: of any sampler, and beside a generator that has moved


def check_sampler(episodes: Sampler, tasks: int) -> None:
    """Checks that a sampler's episodes are a function of its key, and their shapes.

    It is called once, when the program that draws every meta-batch is traced: what does
    not come from the key, by a wrapper of a sampler or by the sampler that it wraps, is
    the same in all of them.

    Args:
      episodes: the sampler; one with an open iterable inside may ignore its key.
      tasks: tasks a meta-batch.

    Raises:
      InputError: for wrong shapes, a key that is not used, a program that differs from
        one trace to the next, or what cannot be traced.
    """
    traced = _trace(episodes, tasks)
    if open_iterable(episodes):
        return
    used, inner = any(inputs_read(traced.jaxpr)), innermost(episodes)
    if not (used and (inner is episodes or uses_key(inner, tasks))):
        raise InputError(
            "a sampler must draw its episodes by its key, got one that does not use "
            f"it, and so would give one meta-batch for ever; {INSTEAD} "
            "(itertools.repeat(batch) to train on one)"
        )
    if _differs_again(traced, episodes, tasks):
        raise InputError(
            "a sampler must draw its episodes by its key alone, got one with numbers "
            "drawn elsewhere (numpy?), which would be drawn once and be the same in "
            f"all meta-batches; {INSTEAD}"
        )


def uses_key(episodes: Sampler, tasks: int) -> bool:
    """Whether anything in a sampler's episodes depends on its key."""
    return any(inputs_read(_trace(episodes, tasks).jaxpr))


def _trace(episodes: Sampler, tasks: int) -> ClosedJaxpr:
    def sampled(key: Array) -> Any:
        batch = episodes(key, tasks)
        shapes = [getattr(x, "shape", ()) for x in jax.tree.leaves(batch)]
        if not shapes or any(shape[:1] != (tasks,) for shape in shapes):
            raise InputError(
                f"every leaf of a meta-batch must have shape [tasks, ...] with {tasks} "
                f"tasks, got {type(batch).__name__} of shapes {shapes}"
            )
        return jax.tree.map(jnp.asarray, batch)

    try:
        return jax.make_jaxpr(sampled)(jax.random.key(0))
    except NOT_TRACEABLE as error:
        raise InputError(
            "a sampler is called inside jit, where its key has no value yet, got "
            f"{type(error).__name__} from it; {INSTEAD}"
        ) from error


def _differs_again(first: ClosedJaxpr, episodes: Sampler, tasks: int) -> bool:
    """Whether tracing a sampler again gives another program.

    A number of few values is often drawn twice in a row. Where the generators of
    Python or numpy have moved, one more trace is not enough.
    """
    before, text = _generators(), program_text(first)
    constants = program_constants(first)
    for trial in range(MANY):
        with AGAIN(trial // FEW):
            again = _trace(episodes, tasks)
        same = program_text(again) == text
        if not (same and _same(constants, program_constants(again))):
            return True
        if trial + 1 >= FEW and _generators() == before:
            return False
    return False


def _generators() -> bytes:
    """The state of the generators that a process has."""
    return pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        x is y or constant_bytes(x) == constant_bytes(y) for x, y in zip(a, b)
    )
