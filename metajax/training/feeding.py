"""What a sampler fetches for a dispatch, on the device while the one before runs."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax._pytrees.key_data import data_to_keys
from metajax.data.opening import open_iterable
from metajax.data.reading import keys_as_data, read_ahead
from metajax.data.sampling import StagedSampler
from metajax.errors import InputError
from metajax.training.processes import place
from metajax.types import Array, PyTree

MOST_BYTES = 2**28  # read for one dispatch; those of two are on the device at a time
WAITED = "/metajax/waited_for_data"  # an event of `jax.monitoring`, in seconds
End = Callable[[int], int]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class FetchedSteps:
    """What a sampler fetched for the meta-steps of a dispatch.

    Attributes:
      data: of the meta-steps from `start` on, along a leading axis; keys as `KeyData`.
      start: a number of meta-steps done, `int32[]`.
    """

    data: PyTree
    start: Array | Any

    def at(self, step: Array) -> PyTree:
        """What was fetched for a meta-step."""
        row = step - self.start
        take = partial(jax.lax.dynamic_index_in_dim, index=row, keepdims=False)
        return data_to_keys(jax.tree.map(take, self.data))


class Feed(NamedTuple):
    """What each dispatch is given beside the sampler.

    Attributes:
      like: a `FetchedSteps` to compile the program for, abstract; None for a sampler
        that fetches nothing.
      most: meta-steps a dispatch, at most.
      dispatches: `dispatches(start, end, shardings)`, a context whose iterator has
        `(until, fetched)` for the meta-steps from `start` to `until = end(start)`, one
        from there, and so on, placed by `shardings`. What cannot be read is raised
        after the meta-steps before it.
    """

    like: FetchedSteps | None
    most: int
    dispatches: Callable[
        [int, End, PyTree],
        AbstractContextManager[Iterator[tuple[int, FetchedSteps | None]]],
    ]


def feed(sampler: StagedSampler, key: Array, *, tasks: int, most: int) -> Feed:
    """How `fit` feeds its dispatches with what a sampler fetches.

    Args:
      sampler: the sampler.
      key: meta-step s draws with `fold_in(key, s)`.
      tasks: tasks a meta-batch.
      most: meta-steps a dispatch, at most; fewer where meta-batches are large.

    Returns:
      A `Feed`.
    """
    if sampler.fetching is None:
        return Feed(None, most, _nothing)
    one = keys_as_data(sampler.fetched_like(tasks))
    most = min(most, max(1, MOST_BYTES // _bytes(one)))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((most, *x.shape), x.dtype), one)
    config: Any = jax.config
    loader = _Loader(sampler, key, tasks, like, config.jax_enable_x64)
    first: Any = jax.ShapeDtypeStruct((), jnp.int32)
    return Feed(FetchedSteps(like, first), most, loader.dispatches)


@contextmanager
def _nothing(start: int, end: End, shardings: PyTree):
    del shardings
    yield ((until, None) for _, until in _spans(start, end))


class _Load(NamedTuple):
    """What was fetched for a dispatch up to `until`, and why there is no more."""

    until: int
    fetched: FetchedSteps
    error: Exception | None


class _Loader(NamedTuple):
    """Loads what is fetched, `like` being that of a dispatch."""

    sampler: StagedSampler
    key: Array
    tasks: int
    like: PyTree
    wide: bool  # whether JAX has 64 bits: threads begin with the default

    @contextmanager
    def dispatches(self, start: int, end: End, shardings: PyTree):
        spans, ended = list(_spans(start, end)), threading.Event()
        if (iterable := open_iterable(self.sampler)) is not None:
            iterable.start()
        steps = start, spans[-1][1]
        with (
            read_ahead(self.sampler, self.key, self.tasks, *steps) as batches,
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
        """Puts what a dispatch needs on the device."""
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
            fetched = place(FetchedSteps(stacked, np.int32(start)), shardings)
        return _Load(until, fetched, error)


def _spans(start: int, end: End) -> Iterator[tuple[int, int]]:
    """From which meta-step to which each dispatch goes."""
    while (stop := end(start)) > start:
        yield start, stop
        start = stop


def _ahead(
    submit: Callable[[tuple[int, int]], Future], spans: list[tuple[int, int]]
) -> Iterator[tuple[int, FetchedSteps]]:
    """What is loaded for each span, while that for the next is on its way."""
    coming = submit(spans[0])
    for i, (start, _) in enumerate(spans):
        began = time.perf_counter()
        until, fetched, error = coming.result()
        waited = time.perf_counter() - began
        jax.monitoring.record_event_duration_secs(WAITED, waited)
        if error is None and spans[i + 1 :]:
            coming = submit(spans[i + 1])
        if until > start:
            yield until, fetched
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
