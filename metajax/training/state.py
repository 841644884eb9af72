"""What training carries, and what it tells: `TrainState`, observers, checkpointers."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax._pytrees.constant import learnt
from metajax.types import Array, Learner, LearnerSchedule, PyTree, learner_at


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
