"""Where the meta-batches of a dispatch come from: a sampler, or what is read ahead."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state

from metajax.data.iterables import Fetched, Opened, leaves_of, swapped
from metajax.data.reading import read_ahead
from metajax.data.sampling import task_sampler
from metajax.data.streaming import Given, Stream
from metajax.errors import InputError
from metajax.training.processes import place
from metajax.types import Array, PyTree, Sampler

MOST_BYTES = 2**28  # read for one dispatch; those of two are on the device at a time
WAITED = "/metajax/waited_for_data"  # an event of `jax.monitoring`, in seconds
End = Callable[[int], int]


class Feed(NamedTuple):
    """The sampler that each dispatch is given, an argument of the compiled program.

    Attributes:
      like: one to compile the program for; its leaves may be abstract.
      most: meta-steps a dispatch, at most.
      samplers: `samplers(start, end, shardings)`, a context whose iterator has
        `(until, sampler)` for the meta-steps from `start` to `until = end(start)`, one
        from there, and so on, placed by `shardings`. What cannot be read is raised
        after the meta-steps before it.
    """

    like: Sampler
    most: int
    samplers: Callable[
        [int, End, PyTree], AbstractContextManager[Iterator[tuple[int, Sampler]]]
    ]


def feed(episodes: Sampler, key: Array, *, tasks: int, most: int) -> Feed:
    """How `fit` is to give a sampler to its dispatches.

    One whose data are on the device goes in as it is. Of one that is a `Stream` or an
    `Opened` iterable, or has one inside, the meta-batches go in: they are read and put
    on the device while the dispatch before runs.

    Args:
      episodes: the sampler.
      key: meta-step s calls it with `fold_in(key, s)`.
      tasks: tasks a meta-batch.
      most: meta-steps a dispatch, at most; fewer where meta-batches are large.

    Returns:
      A `Feed`.
    """
    if (reader := _reader(episodes, key, tasks)) is None:
        return Feed(episodes, most, partial(_resident, episodes))
    kind, one, read = reader
    most = min(most, max(1, MOST_BYTES // _bytes(one)))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((most, *x.shape), x.dtype), one)
    config: Any = jax.config
    ahead = _Ahead(episodes, kind, like, read, config.jax_enable_x64)
    first = jax.ShapeDtypeStruct((), jnp.int32)
    return Feed(ahead.sampler(like, first), most, ahead.samplers)


def at(episodes: Sampler, step: Array) -> Sampler:
    """The sampler of a meta-step, of what a dispatch was given."""
    return swapped(episodes, Stack, lambda stack: stack.at(step))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Stack:
    """The meta-batches of a dispatch, where its sampler reads them.

    Attributes:
      batches: those of the meta-steps from `start` on, along a leading axis of a
        sampler's arrays.
      start: a number of meta-steps done, `int32[]`.
    """

    batches: Given | Fetched
    start: Array

    def at(self, step: Array) -> Given | Fetched:
        """The meta-batch of a meta-step."""
        row = partial(jax.lax.dynamic_index_in_dim, keepdims=False)
        return jax.tree.map(lambda x: row(x, step - self.start), self.batches)


@contextmanager
def _resident(episodes: Sampler, start: int, end: End, shardings: PyTree):
    placed = place(episodes, shardings)
    yield ((until, placed) for _, until in _spans(start, end))


Read = Callable[[int, int], AbstractContextManager[Iterator[PyTree]]]


def _reader(
    episodes: Sampler, key: Array, tasks: int
) -> tuple[type, Given | Fetched, Read] | None:
    """What is read in a sampler: its type, a meta-batch of it, and all from a step."""
    if iterables := leaves_of(episodes, Opened):
        (reader,) = iterables
        return Opened, Fetched(reader.first), reader.meta_batches
    streams, asked = leaves_of(episodes, Stream), partial(_asked, episodes, tasks)
    # One that is asked otherwise reads by its callback, as in any program.
    if len(streams) != 1 or len(jax.eval_shape(asked, key)) != 1:
        return None
    (stream,) = streams

    def read(start: int, stop: int) -> AbstractContextManager[Iterator[PyTree]]:
        steps = jnp.arange(start, stop)
        keys = jax.jit(jax.vmap(lambda s: asked(jax.random.fold_in(key, s))[0]))(steps)
        return read_ahead(stream, keys, tasks)

    return Stream, stream.like(tasks), read


class _Load(NamedTuple):
    """A dispatch's meta-batches up to `until`, and why there are no more."""

    until: int
    sampler: Sampler
    error: Exception | None


class _Ahead(NamedTuple):
    """What is read ahead: in the place of a `kind`, `like` being a dispatch's."""

    episodes: Sampler
    kind: type
    like: Given | Fetched
    read: Read
    wide: bool  # whether JAX has 64 bits, which each thread is told anew

    def sampler(self, batches: Given | Fetched, start: Any) -> Sampler:
        return swapped(self.episodes, self.kind, lambda _: Stack(batches, start))

    @contextmanager
    def samplers(self, start: int, end: End, shardings: PyTree):
        spans, ended = list(_spans(start, end)), threading.Event()
        with (
            self.read(start, spans[-1][1]) as batches,
            ThreadPoolExecutor(1, "metajax-feed") as thread,
        ):
            load = partial(self.load, batches, ended, shardings)
            try:
                yield _ahead(partial(thread.submit, load), spans)
            finally:
                ended.set()
                thread.shutdown(cancel_futures=True)

    def load(
        self,
        batches: Iterator[PyTree],
        ended: threading.Event,
        shardings: PyTree,
        span: tuple[int, int],
    ) -> _Load:
        """The meta-batches of a dispatch, on the device."""
        # New arrays each time: the device may take them as they are, without a copy.
        stacked = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), self.like)
        (start, until), error = span, None
        with jax.enable_x64(self.wide):
            for row, step in enumerate(range(start, until)):
                if ended.is_set():
                    raise CancelledError
                try:
                    item = next(batches)
                except Exception as raised:  # whatever a reader may raise
                    until, error = step, _unread(step, raised)
                    break
                pairs = zip(*map(jax.tree.leaves, (stacked, item)), strict=True)
                for into, x in pairs:
                    into[row] = x
            sampler = place(self.sampler(stacked, np.int32(start)), shardings)
        return _Load(until, sampler, error)


def _spans(start: int, end: End) -> Iterator[tuple[int, int]]:
    """From which meta-step to which each dispatch goes."""
    while (stop := end(start)) > start:
        yield start, stop
        start = stop


def _ahead(
    submit: Callable[[tuple[int, int]], Future], spans: list[tuple[int, int]]
) -> Iterator[tuple[int, Sampler]]:
    """What is loaded for each span, while that for the next is on its way."""
    coming = submit(spans[0])
    for i, (start, _) in enumerate(spans):
        began = time.perf_counter()
        until, sampler, error = coming.result()
        waited = time.perf_counter() - began
        jax.monitoring.record_event_duration_secs(WAITED, waited)
        if error is None and spans[i + 1 :]:
            coming = submit(spans[i + 1])
        if until > start:
            yield until, sampler
        if error is not None:
            raise error


def _unread(step: int, error: Exception) -> Exception:
    if isinstance(error, InputError):
        return error
    first = (str(error).splitlines() or [""])[0]
    unread = OSError(
        f"cannot read meta-step {step + 1} ({type(error).__name__}: {first})"
    )
    unread.__cause__ = error
    return unread


def _bytes(tree: PyTree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _asked(episodes: Sampler, tasks: int, key: Array) -> list[Array]:
    """The key that the stream in a sampler is called with, if it is called once."""
    calls = _Calls(tasks)

    def noting(stream: Stream) -> _Noting:
        return _Noting(**vars(stream), calls=calls)

    task_sampler(swapped(episodes, Stream, noting)).draw(key, tasks)
    return calls.keys if calls.plain else []


class _Calls:
    """The keys that a stream is called with, and whether as it would be by itself."""

    def __init__(self, tasks: int):
        self.keys: list[Array] = []
        self.plain = True
        self._expected = tasks, _trace()

    def note(self, key: Array, tasks: int) -> None:
        # A key inside a jit or a vmap of the sampler's own means nothing out here.
        self.plain &= (tasks, _trace()) == self._expected
        self.keys.append(key)


_trace = partial(get_opaque_trace_state, convention="flax")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class _Noting(Stream):
    """Notes how a stream is called, and gives nothing."""

    calls: _Calls = field(metadata={"static": True})

    def draw(self, key: Array, tasks: int) -> PyTree:
        self.calls.note(key, tasks)
        like = self.like(tasks)
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        return blank.draw(key, tasks)
