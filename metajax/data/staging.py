"""Anything that tasks come from as a sampler of three stages."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from metajax._pytrees.weakly import register_weakly
from metajax.data.iterables import iterated
from metajax.data.sampling import FREED, Fetching, StagedSampler, fetch_on_host
from metajax.errors import InputError
from metajax.types import Array, PyTree, Sampler


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class FunctionSampler(StagedSampler):
    """A function of (key, tasks) as a sampler: tasks are made where they are drawn."""

    episodes: Any

    def draw(self, key: Array, tasks: int) -> PyTree:
        """What the function gives."""
        return self.episodes(key, tasks)

    def make(self, fetched: PyTree) -> PyTree:
        """They are made already."""
        return fetched


@register_weakly("episodes", freed=FREED)
@dataclass(frozen=True, eq=False)
class StaticSampler(StagedSampler):
    """A staged sampler that is no pytree, as one."""

    episodes: StagedSampler

    def draw(self, key: Array, tasks: int) -> PyTree:
        """As the sampler has it."""
        return self.episodes.draw(key, tasks)

    def fetch(self, drawn: PyTree) -> PyTree:
        """As the sampler has it."""
        return self.episodes.fetch(drawn)

    def make(self, fetched: PyTree) -> PyTree:
        """As the sampler has it."""
        return self.episodes.make(fetched)

    @property
    def fetching(self) -> Fetching | None:
        """As the sampler has it."""
        return self.episodes.fetching

    def fetched_like(self, tasks: int) -> PyTree:
        """As the sampler has it."""
        return self.episodes.fetched_like(tasks)

    def traced_fetch(self, drawn: PyTree) -> PyTree:
        """As the sampler has it."""
        return self.episodes.traced_fetch(drawn)


def staged(episodes: Sampler | Iterable[Any]) -> StagedSampler:
    """Any sampler as a `StagedSampler` that can be an argument of a jitted function.

    What is no function is an iterable of meta-batches: `metajax.data.from_step`.

    Raises:
      InputError: if it is neither a sampler nor an iterable.

    >>> import jax.numpy as jnp, metajax as mj
    >>> episodes = staged(mj.data.sinusoid())
    >>> drawn = episodes.draw(jax.random.key(0), 3)
    >>> parts = [episodes.make(drawn[:2]), episodes.make(drawn[2:])]
    >>> joined = jnp.concatenate([part.query.inputs for part in parts])
    >>> bool((joined == episodes(jax.random.key(0), 3).query.inputs).all())
    True
    """
    if inspect.isgeneratorfunction(episodes):
        raise InputError(
            "episodes must be a sampler, or an iterable of meta-batches, got a "
            "generator function; call it, or give metajax.data.from_step(function)"
        )
    if not callable(episodes):
        return iterated(episodes)
    is_leaf = jax.tree.structure(episodes) == jax.tree.structure(0)
    # One with a `__call__` of its own is a function, whatever its stages are.
    own_call = type(episodes).__call__ is not StagedSampler.__call__
    if isinstance(episodes, StagedSampler) and not own_call:
        return StaticSampler(episodes) if is_leaf else episodes
    return FunctionSampler(jax.tree_util.Partial(episodes) if is_leaf else episodes)


class Drawn(NamedTuple):
    """A meta-batch that is drawn and fetched, and not made: each device makes its own.

    Attributes:
      tasks: of `sampler.fetch`.
      sampler: what makes tasks of them.
    """

    tasks: PyTree
    sampler: StagedSampler


def to_drawn(batch: Any) -> Drawn:
    """A meta-batch, of any pytree, as a `Drawn`."""
    return batch if isinstance(batch, Drawn) else Drawn(batch, FunctionSampler(None))


def draw_and_fetch(episodes: Sampler, key: Array, tasks: int) -> Drawn:
    """A meta-batch of a sampler, drawn and fetched.

    Args:
      episodes: the sampler.
      key: a PRNG key.
      tasks: how many.
    """
    sampler = staged(episodes)
    return Drawn(fetch_on_host(sampler, sampler.draw(key, tasks)), sampler)
