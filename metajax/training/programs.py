"""What is compiled for a learner, kept for as long as the learner is."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from metajax.types import Learner, LearnerSchedule

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
