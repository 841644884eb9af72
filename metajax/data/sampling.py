"""Meta-batches that are made task by task, each on the device that needs it."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import jax

from metajax.data.iterables import Iterated, iterated
from metajax.errors import InputError
from metajax.types import Array, Episode, PyTree, Sampler


class TaskSampler(Protocol):
    """A sampler in two parts: `episodes(key, tasks) = make(draw(key, tasks))`.

    `draw` is what sets the tasks of a meta-batch apart, such as a key for each: little,
    and the same on every device. `make` makes any of them into episodes, so that each
    device makes its own, and no more than it works on at a time.
    """

    def draw(self, key: Array, tasks: int) -> PyTree:
        """What the tasks are made of, with a leading axis of `tasks` on every leaf."""
        ...

    def make(self, drawn: PyTree) -> Episode:
        """The episodes of some of them."""
        ...

    def __call__(self, key: Array, tasks: int) -> Episode:
        """All of them."""
        ...


class InTwoParts:
    """A sampler of `draw` and `make`, which a sampler of yours may inherit."""

    draw: Callable[[Array, int], PyTree]
    make: Callable[[PyTree], Episode]

    def __call__(self, key: Array, tasks: int) -> Episode:
        """Samples `tasks` episodes."""
        return self.make(self.draw(key, tasks))


class OfKeys(InTwoParts):
    """A sampler that makes each task of a key of its own, by its `_episode(key)`."""

    _episode: Callable[[Array], Episode]

    def draw(self, key: Array, tasks: int) -> Array:
        """A key for each task."""
        return jax.random.split(key, tasks)

    def make(self, drawn: Array) -> Episode:
        """The episodes of such keys."""
        return jax.vmap(self._episode)(drawn)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Whole:
    """Any sampler as a `TaskSampler`: all tasks are made where they are drawn."""

    episodes: Any

    def __call__(self, key: Array, tasks: int) -> Episode:
        """What the sampler gives."""
        return self.episodes(key, tasks)

    draw = __call__

    def make(self, drawn: Episode) -> Episode:
        """They are made already."""
        return drawn


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Parts(InTwoParts):
    """A sampler in two parts that holds no arrays and is no pytree."""

    episodes: TaskSampler = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> PyTree:
        """As the sampler has it."""
        return self.episodes.draw(key, tasks)

    def make(self, drawn: PyTree) -> Episode:
        """As the sampler has it."""
        return self.episodes.make(drawn)


def task_sampler(episodes: Sampler | Iterable[Episode]) -> TaskSampler:
    """A sampler in two parts that can be an argument of a jitted function.

    What is no function is an iterable of meta-batches: `metajax.data.from_step`.

    Raises:
      InputError: if it is neither a sampler nor an iterable.

    >>> import jax.numpy as jnp, metajax as mj
    >>> episodes = task_sampler(mj.data.sinusoid())
    >>> drawn = episodes.draw(jax.random.key(0), 3)
    >>> parts = [episodes.make(drawn[:2]), episodes.make(drawn[2:])]
    >>> joined = jnp.concatenate([part.query.inputs for part in parts])
    >>> bool((joined == episodes(jax.random.key(0), 3).query.inputs).all())
    True
    """
    if isinstance(episodes, Whole | Parts | Iterated):
        return episodes
    if inspect.isgeneratorfunction(episodes):
        raise InputError(
            "episodes must be a sampler, or an iterable of meta-batches, got a "
            "generator function; call it, or give metajax.data.from_step(function)"
        )
    if not callable(episodes):
        return iterated(episodes)
    leaf = jax.tree.structure(episodes) == jax.tree.structure(0)
    # One that samples otherwise than by its parts is taken at its word.
    by_parts = isinstance(episodes, InTwoParts)
    if by_parts and type(episodes).__call__ is InTwoParts.__call__:
        return Parts(episodes) if leaf else episodes  # pyright: ignore (it has them)
    return Whole(jax.tree_util.Partial(episodes) if leaf else episodes)


class Drawn(NamedTuple):
    """A meta-batch that is drawn and not made: it may stand for an `Episode`.

    Attributes:
      tasks: of `sampler.draw`.
      sampler: what makes episodes of them.
    """

    tasks: PyTree
    sampler: TaskSampler


def as_drawn(batch: Any) -> Drawn:
    """A meta-batch, of any pytree, as a `Drawn`."""
    return batch if isinstance(batch, Drawn) else Drawn(batch, Whole(None))
