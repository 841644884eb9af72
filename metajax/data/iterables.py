"""Meta-batches that the host makes: a loader's, a generator's, any iterable's."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.dtypes import prng_key

from metajax._files.fingerprint import described
from metajax.checks import check_episodes
from metajax.errors import InputError
from metajax.types import Array, Batch, Episode, PyTree, Sampler

Position = str  # of an iterator, in JSON
ENDED: Any = object()


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class Iterated:
    """An iterable of meta-batches, where a sampler may stand.

    Attributes:
      begin: `begin(done) -> iterator`, of the meta-batches after `done` meta-steps, or
        of all of them; asked again when one ends.
      name: of what was given.
      by_step: whether it minds `done`, so that a run can go on from any step.
      once: whether it is one iterator of the caller's.
    """

    begin: Callable[[int], Iterator[Any]]
    name: str
    by_step: bool = False
    once: bool = False

    def __call__(self, key: Array, tasks: int) -> Episode:
        """It cannot be sampled."""
        raise InputError(
            f"a {self.name} is no sampler: only metajax.fit and metajax.evaluate read "
            "an iterable of meta-batches; give episodes(key, tasks) here"
        )

    draw = __call__

    def make(self, drawn: PyTree) -> Episode:
        """Nothing was drawn."""
        raise NotImplementedError


def iterated(episodes: Iterable[Episode]) -> Iterated:
    """Any iterable as an `Iterated`: an iterator is read once, another again and again.

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
    return Iterated(lambda done: iter(episodes), name, once=once)


def from_step(begin: Callable[[int], Iterable[Episode]]) -> Iterated:
    """Meta-batches from any meta-step on, for a run that can be resumed.

    `metajax.fit` and `metajax.evaluate` take any iterable of meta-batches (`Episode`s
    of numpy arrays, torch tensors on the CPU, or JAX arrays, with a leading axis of
    tasks): a list, a generator, a torch `DataLoader`, a grain loader or iterator. An
    iterator with `get_state` and `set_state`, as grain's, is saved with the checkpoint.
    One without cannot be resumed from a checkpoint, unless it is given by this.

    Args:
      begin: `begin(done) -> iterable`, of the meta-batches that follow `done`
        meta-steps: `done` is 0 for a new run and in an evaluation. When the iterable
        ends, `begin` is called again, with the meta-steps done by then.

    Returns:
      What `fit`, `evaluate` and `augmented` take as `episodes`.

    Raises:
      InputError: if `begin` is no function.

    For a list, or a loader that is always in one order, `begin` skips what of it is
    done in this epoch: `itertools.islice(batches, done % len(batches), None)`. A
    generator that counts needs no skipping:

    >>> import metajax as mj, optax
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
    return Iterated(lambda done: iter(begin(done)), "from_step", by_step=True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Fetched:
    """A meta-batch that was read, as a sampler: whatever the key, these episodes."""

    episodes: Any  # an Episode, or what stands for one

    def draw(self, key: Array, tasks: int) -> Episode:
        """All of it."""
        return self.episodes

    def make(self, drawn: Episode) -> Episode:
        """They are made already."""
        return drawn

    def __call__(self, key: Array, tasks: int) -> Episode:
        """All of it."""
        return self.episodes


@jax.tree_util.register_static
class Opened:
    """An iterable that is being read; as a sampler, tasks of its first meta-batch.

    Args:
      source: the iterable.
      tasks: how many a meta-batch must have; None for any number.
      done: meta-steps done.
      position: of the iterator then, if it was saved.
    """

    def __init__(
        self,
        source: Iterated,
        tasks: int | None,
        done: int,
        position: Position | None,
    ):
        if jax.process_count() > 1:
            raise InputError(
                f"the {source.name} feeds one process, got {jax.process_count()}; give "
                "a sampler, which is the same in all of them"
            )
        self._source, self._done = source, done
        self._iterator: Any = _begin(source, done, position)
        self._positions = {done: _position(source, self._iterator)}
        self.first = self._next(done)
        if tasks is not None and _length(self.first) != tasks:
            raise InputError(
                f"the {source.name} must give meta-batches of tasks={tasks} tasks, got "
                f"{_length(self.first)}"
            )

    def draw(self, key: Array, tasks: int) -> Episode:
        """Its first tasks."""
        return jax.tree.map(lambda x: jnp.asarray(x[:tasks]), self.first)

    def make(self, drawn: Episode) -> Episode:
        """They are made already."""
        return drawn

    __call__ = draw

    def position(self, step: int) -> Position | None:
        """Of the iterator after a meta-step; None if it cannot say."""
        for earlier in [s for s in list(self._positions) if s < step]:
            del self._positions[earlier]
        return self._positions[step]

    @contextmanager
    def meta_batches(self, start: int, stop: int) -> Iterator[Iterator[Episode]]:
        """Those of the meta-steps, all of one form, from `start` = `done` on."""
        yield map(self._meta_batch, range(start, stop))

    def calls(self, tasks: int, size: int) -> Iterator[Episode]:
        """The first `tasks` tasks, `size` at a time, the last filled by repetitions.

        Raises:
          InputError: if there are fewer: what comes again would count twice.
        """
        rows = self.first
        for done in range(0, tasks, size):
            wanted = min(size, tasks - done)
            while (count := _length(rows)) < wanted:
                rows = self._more(rows, f"{done + count} of {tasks} tasks")
            yield _rows(rows, np.arange(size) % wanted)
            rows = _rows(rows, slice(wanted, None))

    def close(self) -> None:
        """Ends an iterator that was begun here."""
        if not self._source.once and hasattr(self._iterator, "close"):
            self._iterator.close()

    def _meta_batch(self, step: int) -> Episode:
        item = self.first if step == self._done else self._next(step)
        self._positions[step + 1] = _position(self._source, self._iterator)
        self._check(item, self.first, f"meta-step {step + 1}")
        return item

    def _more(self, rows: Episode, after: str) -> Episode:
        try:
            item = _arrays(next(self._iterator), self._source.name)
        except StopIteration:
            raise InputError(
                f"the {self._source.name} ended after {after}; ask for as many tasks "
                "as it has"
            ) from None
        one = partial(jax.tree.map, lambda x: x[:1])  # of any number of tasks
        self._check(one(item), one(self.first), f"what follows {after}")
        return jax.tree.map(lambda *x: np.concatenate(x), rows, item)

    def _next(self, step: int) -> Episode:
        """The next meta-batch, from the start again after the last."""
        try:
            item = next(self._iterator)
        except StopIteration:
            self._iterator = self._source.begin(step)
            item = next(self._iterator, ENDED)
        if item is ENDED:
            raise InputError(
                f"the {self._source.name} ended after {step} meta-steps; ask for no "
                "more, or give an iterable that begins again, as a list does"
            )
        return _arrays(item, self._source.name)

    def _check(self, item: Episode, like: Episode, where: str) -> None:
        expected, came = described(like), described(item)
        if expected != came:
            one, other = next(
                (pair for pair in zip(expected, came) if pair[0] != pair[1]),
                (f"{len(expected)} arrays", f"{len(came)}"),
            )
            raise InputError(
                f"the {self._source.name} must give meta-batches of one form, expected "
                f"{one} as at first, got {other} for {where}; leave out an incomplete "
                "last batch (drop_last, drop_remainder)"
            )


@contextmanager
def opened(
    episodes: Sampler,
    tasks: int | None = None,
    *,
    done: int = 0,
    position: Position | None = None,
) -> Iterator[Any]:
    """A sampler whose iterable, if it has one, is open.

    Args:
      episodes: the sampler.
      tasks: how many a meta-batch must have; any number by default.
      done: meta-steps done.
      position: of the iterator then, if it was saved.

    Yields:
      The sampler with an `Opened` in the place of its `Iterated`.

    Raises:
      InputError: if the iterable cannot go on from there, is empty, gives no
        meta-batches, or is not the only one.
    """
    sources = leaves_of(episodes, Iterated)
    if len(sources) > 1:
        raise InputError(f"a sampler may read one iterable, got {len(sources)}")
    if not sources:
        yield episodes
        return
    reader = Opened(sources[0], tasks, done, position)
    try:
        yield swapped(episodes, Iterated, lambda _: reader)
    finally:
        reader.close()


def position_of(episodes: Sampler, step: int) -> Position | None:
    """Where the iterator of an `opened` sampler was after a meta-step, if it says."""
    positions = [reader.position(step) for reader in leaves_of(episodes, Opened)]
    return positions[0] if positions else None


def leaves_of(tree: PyTree, kind: Any) -> list[Any]:
    """All of a type in a pytree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
    return [x for x in leaves if isinstance(x, kind)]


def swapped(tree: PyTree, kind: Any, change: Callable[[Any], Any]) -> Any:
    """A pytree with something else in the place of all of a type."""

    def is_kind(x: Any) -> bool:
        return isinstance(x, kind)

    return jax.tree.map(lambda x: change(x) if is_kind(x) else x, tree, is_leaf=is_kind)


def _begin(source: Iterated, done: int, position: Position | None) -> Iterator[Any]:
    iterator: Any = source.begin(done)
    if source.by_step or (done == 0 and position is None):
        return iterator
    if position is None or not _has_state(iterator):
        raise InputError(
            f"the run resumes at meta-step {done}, and the {source.name} cannot go on "
            "from there; give metajax.data.from_step(begin), or from the first "
            "meta-step on an iterator with get_state and set_state, as grain's"
        )
    state = json.loads(position)
    try:
        iterator.set_state(state.encode() if isinstance(state, str) else state)
    except Exception as error:  # of whatever kind an iterator may raise
        raise InputError(
            f"the {source.name} does not take the state that was saved with the "
            f"checkpoint ({type(error).__name__}); give the same as before"
        ) from error
    return iterator


def _has_state(iterator: Any) -> bool:
    return hasattr(iterator, "get_state") and hasattr(iterator, "set_state")


def _position(source: Iterated, iterator: Any) -> Position | None:
    """The state of an iterator, bytes or of JSON, as grain's are."""
    if source.by_step or not _has_state(iterator):
        return None
    state = iterator.get_state()
    plain = state.decode() if isinstance(state, bytes) else state
    try:
        position = json.dumps(plain)
        whole = isinstance(state, str) or json.loads(position) != plain
    except TypeError:
        whole = True
    if whole:
        raise InputError(
            f"get_state of the {source.name} must return bytes, or what JSON holds, "
            f"got {type(state).__name__}"
        )
    return position


def _arrays(item: Any, name: str) -> Episode:
    """A meta-batch as numpy's arrays, of its own."""
    parts = (item, *item) if isinstance(item, Episode) else (item,)
    if [type(part) for part in parts] != [Episode, Batch, Batch]:
        raise InputError(
            f"each item of the {name} must be a meta-batch, an Episode(support, query) "
            "of Batch(inputs, targets) with a leading axis of tasks, got "
            f"{', '.join(type(part).__name__ for part in parts)}; let the data set "
            "give Episodes, which loaders stack (itertools.repeat(batch) gives one)"
        )
    batch = jax.tree.map(partial(_array, name), item)
    lengths = [x.shape[0] for x in jax.tree.leaves(batch) if x.ndim]
    check_episodes(batch, lengths[0] if lengths else 0)
    return batch


def _array(name: str, leaf: Any) -> np.ndarray:
    try:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, prng_key):
            raise TypeError(f"keys; wrap a {name} without keys in metajax.data.keyed")
        x = np.array(leaf)  # a copy: an iterator may fill the same memory again
        if not (jnp.issubdtype(x.dtype, np.number) or x.dtype == bool):
            raise TypeError(f"of dtype {x.dtype}")
        y = x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)
    except Exception as error:  # of whatever kind an array of another library raises
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"the {name} must give arrays of numbers on the host, got "
            f"{type(leaf).__name__} ({first})"
        ) from error
    if x.dtype.kind in "iu" and not np.array_equal(x, y):
        raise InputError(
            f"the {name} gave {x.dtype} numbers that {y.dtype} does not hold; enable "
            "jax_enable_x64"
        )
    return y


def _rows(batch: Episode, which: Any) -> Episode:
    return jax.tree.map(lambda x: x[which], batch)


def _length(batch: Episode) -> int:
    return jax.tree.leaves(batch)[0].shape[0]
