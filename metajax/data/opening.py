"""An iterable of meta-batches while it is read: where it is, and how it goes on."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from metajax._pytrees.key_data import is_key
from metajax.data.arrays import check_same_form, host_arrays, length, take_rows
from metajax.data.iterables import IterableSampler, MetaBatches
from metajax.data.sampling import Fetching, StagedSampler
from metajax.errors import InputError
from metajax.types import Array, PyTree, Sampler

Position = str  # of an iterator, in JSON
ENDED: Any = object()


@jax.tree_util.register_static
class OpenIterable(StagedSampler):
    """An iterable that is read: `fetch` gives the next tasks, whatever was drawn.

    Until `start`, it gives the first ones again and again, to look at.

    Args:
      source: the iterable.
      tasks: how many each meta-batch must have, a fetch giving one meta-batch; None for
        any number, a fetch giving as many tasks as were drawn.
      done: meta-steps done.
      position: of the iterator then, if it was saved.
    """

    def __init__(
        self,
        source: IterableSampler,
        tasks: int | None = None,
        done: int = 0,
        position: Position | None = None,
    ):
        if jax.process_count() > 1:
            raise InputError(
                f"the {source.name} feeds one process, got {jax.process_count()}; give "
                "a sampler, which is the same in all of them"
            )
        self._source, self._tasks, self._done = source, tasks, done
        self._started, self._given = False, 0
        self._iterator: Any = source.begin(done)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            _go_on(source, self._iterator, done, position)
            self._positions = {done: _position(source, self._iterator)}
            self.first = self._left = self._next()
            if tasks is not None and length(self.first) != tasks:
                raise InputError(
                    f"the {source.name} must give meta-batches of tasks={tasks} tasks, "
                    f"got {length(self.first)}"
                )
            on_error.pop_all()

    @property
    def fetching(self) -> Fetching:
        """In order, by one thread."""
        return Fetching()

    def draw(self, key: Array, tasks: int) -> Array:
        """Draws nothing: numbers, one for each task."""
        return MetaBatches().draw(key, tasks)

    def fetch(self, drawn: np.ndarray) -> PyTree:
        """The next tasks.

        Raises:
          InputError: if there are no more, or they have another form.
        """
        if not self._started:
            return take_rows(self.first, slice(len(drawn)))
        return self._tasks_of(len(drawn)) if self._tasks is None else self._meta_batch()

    def make(self, fetched: PyTree) -> PyTree:
        """They are made already."""
        return fetched

    def start(self) -> None:
        """From now on each fetch takes its tasks away."""
        self._started = True

    def position(self, step: int) -> Position | None:
        """The position of the iterator after a meta-step; None if it cannot say."""
        for earlier in [s for s in list(self._positions) if s < step]:
            del self._positions[earlier]
        return self._positions[step]

    def close(self) -> None:
        """Ends an iterator that was begun here."""
        if not self._source.once and hasattr(self._iterator, "close"):
            self._iterator.close()

    def _meta_batch(self) -> PyTree:
        item, self._left = self._left, None
        if item is None:
            item = self._next()
        self._done += 1
        self._positions[self._done] = _position(self._source, self._iterator)
        self._check(item, self.first, f"meta-step {self._done}")
        return item

    def _tasks_of(self, count: int) -> PyTree:
        while length(self._left) < count:
            self._left = self._longer(self._left)
        taken = take_rows(self._left, slice(count))
        self._left = take_rows(self._left, slice(count, None))
        self._given += count
        return taken

    def _longer(self, rows: PyTree) -> PyTree:
        """With the next meta-batch. What comes again in an epoch would count twice."""
        after = f"{self._given + length(rows)} tasks"
        try:
            item = _meta_batch_of(next(self._iterator), self._source.name)
        except StopIteration:
            raise InputError(
                f"the {self._source.name} ended after {after}; ask for as many tasks "
                "as it has"
            ) from None
        one = slice(1)  # a meta-batch may have any number of tasks
        self._check(take_rows(item, one), take_rows(self.first, one), f"after {after}")
        return jax.tree.map(lambda *x: np.concatenate(x), rows, item)

    def _next(self) -> PyTree:
        """The next meta-batch, from the start again after the last."""
        try:
            item = next(self._iterator)
        except StopIteration:
            self._iterator = self._source.begin(self._done)
            item = next(self._iterator, ENDED)
        if item is ENDED:
            raise InputError(
                f"the {self._source.name} ended after {self._done} meta-steps; ask for "
                "no more, or give an iterable that begins again, as a list does"
            )
        return _meta_batch_of(item, self._source.name)

    def _check(self, item: PyTree, like: PyTree, where: str) -> None:
        try:
            check_same_form(item, like, self._source.name)
        except InputError as error:
            raise InputError(
                f"{error} for {where}; leave out an incomplete last batch (drop_last, "
                "drop_remainder)"
            ) from None


@contextmanager
def opened(
    episodes: StagedSampler,
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
      The sampler with an `OpenIterable` in the place of its `IterableSampler`.

    Raises:
      InputError: if the iterable cannot go on from there, is empty, gives no
        meta-batches, or is not the only one.
    """
    sources = leaves_of(episodes, IterableSampler)
    if len(sources) > 1:
        raise InputError(f"a sampler may read one iterable, got {len(sources)}")
    if not sources:
        yield episodes
        return
    reader = OpenIterable(sources[0], tasks, done, position)
    try:
        yield _swapped(episodes, IterableSampler, reader)
    finally:
        reader.close()


def needs_opening(episodes: Sampler) -> bool:
    """Whether a sampler has an iterable that is not open yet."""
    return bool(leaves_of(episodes, IterableSampler))


def open_iterable(episodes: Sampler) -> OpenIterable | None:
    """The iterable of an `opened` sampler, if it has one."""
    readers = leaves_of(episodes, OpenIterable)
    return readers[0] if readers else None


def for_program(episodes: StagedSampler) -> StagedSampler:
    """An `opened` sampler for a program, which so keeps no iterable alive."""
    return _swapped(episodes, OpenIterable, MetaBatches())


def leaves_of(tree: PyTree, kind: Any) -> list[Any]:
    """All of a type in a pytree."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
    return [x for x in leaves if isinstance(x, kind)]


def _swapped(tree: PyTree, kind: type, other: Any) -> Any:
    """A pytree with `other` in the place of all of a type."""

    def is_kind(x: Any) -> bool:
        return isinstance(x, kind)

    return jax.tree.map(lambda x: other if is_kind(x) else x, tree, is_leaf=is_kind)


def _go_on(
    source: IterableSampler, iterator: Any, done: int, position: Position | None
) -> None:
    """Sets an iterator that was begun to where it was."""
    if source.by_step or (done == 0 and position is None):
        return
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


def _has_state(iterator: Any) -> bool:
    return hasattr(iterator, "get_state") and hasattr(iterator, "set_state")


def _position(source: IterableSampler, iterator: Any) -> Position | None:
    """The state of an iterator, which is bytes or what JSON holds, as grain's is."""
    if source.by_step or not _has_state(iterator):
        return None
    state = iterator.get_state()
    plain = state.decode() if isinstance(state, bytes) else state
    try:
        position = json.dumps(plain)
        is_lost = isinstance(state, str) or json.loads(position) != plain
    except TypeError:
        is_lost = True
    if is_lost:
        raise InputError(
            f"get_state of the {source.name} must return bytes, or what JSON holds, "
            f"got {type(state).__name__}"
        )
    return position


def _meta_batch_of(item: Any, name: str) -> PyTree:
    """A meta-batch as NumPy arrays, copied: an iterator may fill its memory again."""
    leaves = jax.tree.leaves(item)
    if any(map(is_key, leaves)):
        raise InputError(
            f"the {name} must give arrays of numbers on the host, got PRNG keys; wrap "
            f"a {name} without keys in metajax.data.keyed"
        )
    batch = host_arrays(item, name, copy=True)
    shapes = [x.shape for x in jax.tree.leaves(batch)]
    lengths = {shape[:1] for shape in shapes}
    if len(lengths) != 1 or () in lengths:
        raise InputError(
            f"each item of the {name} must be a meta-batch, a pytree such as Episode "
            "whose arrays must have shape [tasks, ...] with one number of tasks, got "
            f"{type(item).__name__} of shapes {shapes}; a loader stacks what its data "
            "set gives (itertools.repeat(batch) gives one meta-batch)"
        )
    return batch
