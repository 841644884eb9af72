"""Meta-batches that the host makes: a loader's, a generator's, any iterable's."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from metajax.data.sampling import Fetching, StagedSampler
from metajax.errors import InputError
from metajax.types import Array, Episode, PyTree


@jax.tree_util.register_static
@dataclass(frozen=True)
class MetaBatches(StagedSampler):
    """What a program knows of an iterable: its meta-batches are made already."""

    def draw(self, key: Array, tasks: int) -> Array:
        """Draws nothing: numbers, one for each task."""
        return jnp.arange(tasks, dtype=jnp.int32)

    def make(self, fetched: PyTree) -> PyTree:
        """They are made already."""
        return fetched


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class IterableSampler(StagedSampler):
    """An iterable of meta-batches in the place of a sampler, not yet open.

    Attributes:
      begin: `begin(done) -> iterator`, of the meta-batches after `done` meta-steps, or
        of all of them; asked again when one ends.
      name: of the type that was given.
      by_step: whether `begin` heeds `done`, so that a run can go on from any step.
      once: whether it is one iterator of the caller's.
    """

    begin: Callable[[int], Iterator[Any]]
    name: str
    by_step: bool = False
    once: bool = False

    @property
    def fetching(self) -> Fetching:
        """In order, by one thread."""
        return Fetching()

    def draw(self, key: Array, tasks: int) -> PyTree:
        """It is read once it is open, by `fit` and `evaluate`.

        Raises:
          InputError: always.
        """
        raise InputError(
            f"a {self.name} is no sampler: only metajax.fit and metajax.evaluate read "
            "an iterable of meta-batches; give episodes(key, tasks) here"
        )


def iterated(episodes: Iterable[Any]) -> IterableSampler:
    """Any iterable as a sampler: an iterator is read once, another again and again.

    Raises:
      InputError: if it is no iterable.
    """
    name = type(episodes).__name__
    if not isinstance(episodes, Iterable) and not hasattr(episodes, "__getitem__"):
        raise InputError(
            "episodes must be a sampler, episodes(key, tasks) -> Episode, or an "
            f"iterable of meta-batches, got {name}"
        )
    once = isinstance(episodes, Iterator)
    return IterableSampler(lambda done: iter(episodes), name, once=once)


def from_step(begin: Callable[[int], Iterable[Episode]]) -> IterableSampler:
    """Meta-batches from any meta-step on, for a run that can be resumed.

    `metajax.fit` and `metajax.evaluate` take any iterable of meta-batches (pytrees, as
    `Episode`s, of NumPy arrays, torch tensors on the CPU, or JAX arrays, with a leading
    axis of tasks): a list, a generator, a torch `DataLoader`, a grain loader or
    iterator. An iterator with `get_state` and `set_state`, as grain's, is saved with
    the checkpoint. Without them a run cannot resume, unless it is given by this.

    Args:
      begin: `begin(done) -> iterable`, of the meta-batches that follow `done`
        meta-steps: `done` is 0 for a new run and in an evaluation. When the iterable
        ends, `begin` is called again, with the meta-steps done by then.

    Returns:
      A sampler for `fit`, `evaluate` and wrappers such as `augmented`.

    Raises:
      InputError: if `begin` is no function.

    For a list, or a loader that is always in one order, `begin` skips the meta-batches
    of this epoch that are done: `itertools.islice(batches, done % len(batches), None)`.
    A generator that counts needs no skipping:

    >>> import numpy as np, metajax as mj, optax
    >>> from metajax import Batch
    >>> def sines(done):
    ...     for step in range(done, 100):
    ...         random = np.random.default_rng([0, step])
    ...         x = random.uniform(-5, 5, (4, 20, 1)).astype(np.float32)
    ...         y = random.uniform(1, 5, (4, 1, 1)).astype(np.float32) * np.sin(x)
    ...         first, last = ((x[:, i], y[:, i]) for i in (slice(10), slice(10, 20)))
    ...         yield Episode(Batch(*first), Batch(*last))
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> state = mj.fit(learner, optax.sgd(0.1), from_step(sines), steps=20, tasks=4)
    >>> int(state.step)
    20
    """
    if not callable(begin):
        raise InputError(
            f"from_step expected a function of the meta-steps done, got "
            f"{type(begin).__name__}; give it to fit as it is"
        )
    return IterableSampler(lambda done: iter(begin(done)), "from_step", by_step=True)
