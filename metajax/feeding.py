"""Where the meta-batches of a dispatch come from: a sampler, or a stream read ahead."""

import itertools
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

from metajax.data.reading import read_ahead
from metajax.data.streaming import Given, Stream
from metajax.processes import place
from metajax.sampling import task_sampler
from metajax.types import Array, PyTree, Sampler

MOST_BYTES = 2**28  # read for one dispatch; those of two are on the device at a time
WAITED = "/metajax/waited_for_data"  # an event of `jax.monitoring`, in seconds
End = Callable[[int], int]


class Feed(NamedTuple):
    """The sampler that each dispatch is given, an argument of the compiled program.

    Attributes:
      like: one to compile the program for; its leaves may be abstract.
      most: meta-steps a dispatch, at most.
      samplers: `samplers(start, end, shardings)`, a context whose iterator has one for
        the meta-steps from `start` to `end(start)`, one from there, and so on, placed
        by `shardings`.
    """

    like: Sampler
    most: int
    samplers: Callable[[int, End, PyTree], AbstractContextManager[Iterator[Sampler]]]


def feed(episodes: Sampler, key: Array, *, tasks: int, most: int) -> Feed:
    """How `fit` is to give a sampler to its dispatches.

    One whose data are on the device goes in as it is. Of one that is a `Stream`, or has
    one inside, the meta-batches go in: they are read and put on the device while the
    dispatch before runs.

    Args:
      episodes: the sampler.
      key: meta-step s calls it with `fold_in(key, s)`.
      tasks: tasks a meta-batch.
      most: meta-steps a dispatch, at most; fewer where meta-batches are large.

    Returns:
      A `Feed`.
    """
    streams = [
        x for x in jax.tree.leaves(episodes, is_leaf=_is_stream) if _is_stream(x)
    ]
    asked = partial(_asked, episodes, tasks)
    # One that is asked otherwise reads by its callback, as in any program.
    if len(streams) != 1 or len(jax.eval_shape(asked, key)) != 1:
        return Feed(episodes, most, partial(_resident, episodes))
    (stream,) = streams
    size = stream.like(tasks)
    most = min(most, max(1, MOST_BYTES // size.images.size))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((most, *x.shape), x.dtype), size)
    streamed = _Streamed(episodes, stream, key, tasks, like)
    first = jax.ShapeDtypeStruct((), jnp.int32)
    return Feed(streamed.sampler(like, first), most, streamed.samplers)


def at(episodes: Sampler, step: Array) -> Sampler:
    """The sampler of a meta-step, of what a dispatch was given."""

    def is_stack(x: Any) -> bool:
        return isinstance(x, Stack)

    return jax.tree.map(
        lambda x: x.at(step) if is_stack(x) else x, episodes, is_leaf=is_stack
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Stack:
    """The meta-batches of a dispatch, where its sampler has a stream.

    Attributes:
      batches: those of the meta-steps from `start` on, along a leading axis.
      start: a number of meta-steps done, `int32[]`.
    """

    batches: Given
    start: Array

    def at(self, step: Array) -> Given:
        """The meta-batch of a meta-step."""
        row = partial(jax.lax.dynamic_index_in_dim, keepdims=False)
        return jax.tree.map(lambda x: row(x, step - self.start), self.batches)


@contextmanager
def _resident(episodes: Sampler, start: int, end: End, shardings: PyTree):
    del start, end
    yield itertools.repeat(place(episodes, shardings))


class _Streamed(NamedTuple):
    """What is read ahead, `like` being a dispatch's meta-batches."""

    episodes: Sampler
    stream: Stream
    key: Array
    tasks: int
    like: Given

    def sampler(self, batches: Given, start: Any) -> Sampler:
        return _swap(self.episodes, lambda _: Stack(batches, start))

    def keys(self, start: int, stop: int) -> Array:
        """What the stream is asked with in each meta-step."""

        def asked(step: Array) -> Array:
            key = jax.random.fold_in(self.key, step)
            return _asked(self.episodes, self.tasks, key)[0]

        return jax.jit(jax.vmap(asked))(jnp.arange(start, stop))

    @contextmanager
    def samplers(self, start: int, end: End, shardings: PyTree):
        spans = list(_spans(start, end))
        keys, ended = self.keys(start, spans[-1][1]), threading.Event()
        with (
            read_ahead(self.stream, keys, self.tasks) as batches,
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
        batches: Iterator[tuple[np.ndarray, np.ndarray]],
        ended: threading.Event,
        shardings: PyTree,
        span: tuple[int, int],
    ) -> Sampler:
        """The meta-batches of a dispatch, on the device."""
        # New arrays each time: the device may take them as they are, without a copy.
        stacked = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), self.like)
        start, stop = span
        for row, step in enumerate(range(start, stop)):
            if ended.is_set():
                raise CancelledError
            stacked.images[row], stacked.turns[row] = _read(batches, step)
        return place(self.sampler(stacked, np.int32(start)), shardings)


def _spans(start: int, end: End) -> Iterator[tuple[int, int]]:
    """From which meta-step to which each dispatch goes."""
    while (stop := end(start)) > start:
        yield start, stop
        start = stop


def _ahead(
    submit: Callable[[tuple[int, int]], Future], spans: list[tuple[int, int]]
) -> Iterator[Sampler]:
    """The result for each span, while that for the next is on its way."""
    coming = submit(spans[0])
    for span in [*spans[1:], None]:
        began = time.perf_counter()
        ready = coming.result()
        waited = time.perf_counter() - began
        jax.monitoring.record_event_duration_secs(WAITED, waited)
        if span is not None:
            coming = submit(span)
        yield ready


def _read(batches: Iterator, step: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        return next(batches)
    except Exception as error:  # whatever a reader of images may raise
        first = (str(error).splitlines() or [""])[0]
        raise OSError(
            f"cannot read the images of meta-step {step + 1} "
            f"({type(error).__name__}: {first})"
        ) from error


def _asked(episodes: Sampler, tasks: int, key: Array) -> list[Array]:
    """The key that the stream in a sampler is called with, if it is called once."""
    calls = _Calls(tasks)

    def noting(stream: Stream) -> _Noting:
        return _Noting(**vars(stream), calls=calls)

    task_sampler(_swap(episodes, noting)).draw(key, tasks)
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


def _swap(episodes: Sampler, change: Callable[[Stream], Any]) -> Sampler:
    """A sampler with something else in its stream's place."""
    return jax.tree.map(
        lambda x: change(x) if _is_stream(x) else x, episodes, is_leaf=_is_stream
    )


def _is_stream(x: Any) -> bool:
    return isinstance(x, Stream)
