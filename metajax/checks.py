"""Checks of the arguments of public functions."""

import difflib
import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from metajax.errors import InputError, argument
from metajax.types import Batch, Episode, Learner, Model


def check_count(name: str, value: Any, *, least: int, most: int = 2**31 - 1) -> int:
    """Returns `value` if it is a whole number from `least` to `most`.

    By default `most` is the largest of JAX's own whole numbers.

    Raises:
      InputError: if it is not.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise InputError(
            f"{argument(name)} must be a whole number of at least {least}, got "
            f"{value!r}"
        )
    if number > most:
        raise InputError(f"{argument(name)} must be at most {most}, got {value!r}")
    return number


def check_positive(name: str, value: Any) -> float:
    """Returns `value` if it is a finite number above 0.

    Raises:
      InputError: if it is not.
    """
    try:
        good = 0 < value < math.inf
    except TypeError:
        good = False
    if not good:
        raise InputError(f"{argument(name)} must be a positive number, got {value!r}")
    return value


def check_share(name: str, value: Any, *, whole: bool = False) -> float:
    """Returns `value` if it is a number in [0, 1), or in [0, 1] if it may be `whole`.

    Raises:
      InputError: if it is not.
    """
    try:
        good = 0 <= value < 1 or (whole and value == 1)
    except TypeError:
        good = False
    if not good:
        most = "at most" if whole else "below"
        raise InputError(
            f"{argument(name)} must be at least 0 and {most} 1, got {value!r}"
        )
    return value


def check_one_of(name: str, value: Any, options: Sequence[str]) -> None:
    """Checks that `value` is one of the options.

    Raises:
      InputError: if it is not.
    """
    if value not in options:
        names = ", ".join(f'"{option}"' for option in options)
        raise InputError(f"{argument(name)} must be one of {names}, got {value!r}")


def check_known(kind: str, name: str, names: Iterable[str]) -> str:
    """Returns `name` if it is one of the names of its kind.

    Raises:
      InputError: if it is not; it lists the names, and the nearest first.
    """
    names = tuple(names)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        shown = ", ".join(repr(each) if "," in each else each for each in names)
        raise InputError(f"no {kind} {name!r}; {hint}there are {shown}")
    return name


def check_seed(name: str, value: Any) -> int:
    """Returns `value` if it is a seed.

    Raises:
      InputError: if it is none of the 2³² seeds that JAX tells apart.
    """
    return check_count(name, value, least=0, most=2**32 - 1)


def check_model(model: Model) -> None:
    """Checks that a model is a `metajax.Model`.

    Raises:
      InputError: if it is something else, such as a module of Flax.
    """
    if not isinstance(model, Model):
        raise InputError(
            "model must be a metajax.Model(init, apply), got "
            f"{type(model).__name__}; metajax.from_linen, from_nnx and from_equinox "
            "turn a module into one"
        )


def check_learner(learner: Learner) -> None:
    """Checks that a learner is a `metajax.Learner`.

    Raises:
      InputError: if it is something else, such as a schedule of learners.
    """
    if not isinstance(learner, Learner):
        mend = "make one, such as metajax.maml(...)"
        if callable(learner):
            mend = "give one of a schedule's learners, schedule(step)"
        raise InputError(
            f"learner must be a metajax.Learner, got {type(learner).__name__}; {mend}"
        )


def check_episodes(episodes: Episode, tasks: int) -> None:
    """Checks the shapes of a meta-batch, arrays or abstract ones.

    Raises:
      InputError: if a leaf lacks the leading task axis, if inputs or targets have no
        leaf, or if they disagree on the number of examples.
    """
    parts = (episodes, *episodes) if isinstance(episodes, Episode) else (episodes,)
    if (kinds := [type(part) for part in parts]) != [Episode, Batch, Batch]:
        raise InputError(
            "a sampler must return an Episode(support, query) of Batch(inputs, "
            f"targets), got {', '.join(kind.__name__ for kind in kinds)}; an iterable "
            "gives meta-batches of them (itertools.repeat(batch) gives one)"
        )
    for side, batch in episodes._asdict().items():
        _check_batches(side, batch, tasks)


def _check_batches(side: str, batch: Batch, tasks: int) -> None:
    shapes: list[tuple[int, ...]] = [
        getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(batch)
    ]
    empty = not all(map(jax.tree.leaves, batch))
    if empty or any(s[:1] != (tasks,) or len(s) < 2 for s in shapes):
        raise InputError(
            f"every leaf of the {side} batches must have shape [tasks, examples, ...] "
            f"with {tasks} tasks, got {shapes}"
        )
    if len({shape[1] for shape in shapes}) > 1:
        raise InputError(
            f"{side} inputs and targets must agree on the number of examples (the "
            f"second axis), got {shapes}"
        )


def check_episode(episode: Episode) -> None:
    """Checks the shapes of ONE episode, for a learner's loss of it.

    Raises:
      InputError: see `check_episodes`.
    """

    def with_task_axis(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *getattr(x, "shape", ())), bool)

    check_episodes(jax.tree.map(with_task_axis, episode), 1)
