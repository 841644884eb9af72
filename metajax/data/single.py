"""Programs that run once, and are compiled in a hurry."""

from collections.abc import Callable
from functools import lru_cache

import jax

from metajax.data.iterables import Opened, leaves_of
from metajax.data.streaming import Stream
from metajax.types import Array, Episode, PyTree, Sampler

QUICKLY = {"xla_backend_optimization_level": 0}  # an eighth of the time to compile


def once(function: Callable) -> Callable:
    """A jitted function that is quick to compile, and slower to run.

    Its numbers may differ in the last bit from those of `jax.jit`.

    Args:
      function: as for `jax.jit`.
    """
    quick = jax.default_backend() == "cpu"
    return jax.jit(function, compiler_options=QUICKLY if quick else None)


def one_task(episodes: Sampler) -> Episode:
    """A task of a sampler, always the same one."""
    return _sampled(episodes, _all)


def one_target(episodes: Sampler) -> tuple[PyTree, PyTree]:
    """The targets of its support and of its query set."""
    return _sampled(episodes, _targets)


def _all(episode: Episode) -> PyTree:
    return episode


def _targets(episode: Episode) -> PyTree:
    return tuple(batch.targets for batch in episode)


def _sampled(episodes: Sampler, part: Callable[[Episode], PyTree]) -> PyTree:
    key = jax.random.key(0)
    if leaves_of(episodes, Stream | Opened):  # of the host, whose errors stay its own
        return part(jax.tree.map(lambda x: x[0], episodes(key, 1)))
    return _program(part)(episodes, key)


@lru_cache
def _program(part: Callable[[Episode], PyTree]) -> Callable:
    def sampled(episodes: Sampler, key: Array) -> PyTree:
        return part(jax.tree.map(lambda x: x[0], episodes(key, 1)))

    return once(sampled)
