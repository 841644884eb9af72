"""What tasks are made of, fetched ahead of the device: in threads or in processes."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from multiprocessing import parent_process
from typing import Any

import jax
import numpy as np

from metajax._pytrees.key_data import data_to_keys, is_key, keys_to_data
from metajax.data.arrays import check_same_form, take_rows
from metajax.data.opening import for_program
from metajax.data.sampling import Fetching, StagedSampler, fetch_on_host, innermost
from metajax.errors import InputError
from metajax.types import Array, PyTree

AHEAD = 8  # meta-batches that threads are ahead, in each process
PLATFORMS = "JAX_PLATFORMS"
PROFILING = "grain_enable_multiprocess_worker_profiling"
_drawing = threading.Lock()


class MetaBatchReader:
    """`read(step)`: draws and fetches the meta-batch of a meta-step, on the host.

    It can be sent to another process, by cloudpickle.

    Args:
      sampler: one that fetches.
      key: meta-step s draws with `fold_in(key, s)`.
      tasks: tasks a meta-batch.
    """

    def __init__(self, sampler: StagedSampler, key: Array, tasks: int):
        config: Any = jax.config
        self._sampler = jax.tree.map(_own, sampler)
        self._key = jax.tree.map(np.asarray, keys_to_data(key))
        self._tasks = tasks
        self._like = keys_as_data(sampler.fetched_like(tasks))
        # Threads and processes begin with JAX's defaults, which change what is drawn.
        self._partitionable = config.jax_threefry_partitionable
        self._wide = config.jax_enable_x64

    def __call__(self, step: int) -> PyTree:
        """NumPy arrays, and `KeyData` of them."""
        with self._configured():
            with _drawing:  # one thread compiles, and drawing is too short to be shared
                drawn = self._draw(for_program(self._sampler), np.int32(step))
                drawn = jax.block_until_ready(drawn)
            fetched = fetch_on_host(self._sampler, drawn)
            data = jax.tree.map(np.asarray, keys_to_data(fetched))
        name = f"fetch of {type(innermost(self._sampler)).__name__}"
        check_same_form(data, self._like, name)
        return data

    @contextmanager
    def _configured(self) -> Iterator[None]:
        """On the CPU: an accelerator is busy with what was read before."""
        cpu = cpu_device()
        with (
            nullcontext() if cpu is None else jax.default_device(cpu),
            jax.threefry_partitionable(self._partitionable),
            jax.enable_x64(self._wide),
        ):
            yield

    @cached_property
    def _draw(self) -> Any:
        """Compiled for this reader: a program for all of them would keep it alive."""

        def draw(sampler: StagedSampler, step: Array) -> PyTree:
            key = jax.random.fold_in(data_to_keys(self._key), step)
            return sampler.draw(key, self._tasks)

        return jax.jit(draw)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_draw"}


def keys_as_data(like: PyTree) -> PyTree:
    """Abstract arrays, with `KeyData` in the place of keys."""
    return jax.eval_shape(keys_to_data, like)


def _own(x: Any) -> Any:
    """An array of a sampler, on the host."""
    return np.asarray(x) if isinstance(x, jax.Array) and not is_key(x) else x


@contextmanager
def read_ahead(
    sampler: StagedSampler, key: Array, tasks: int, start: int, stop: int
) -> Iterator[Iterator[PyTree]]:
    """Draws and fetches meta-batches, in order and ahead of time.

    Args:
      sampler: one that fetches.
      key: meta-step s draws with `fold_in(key, s)`.
      tasks: tasks a meta-batch.
      start: the first meta-step.
      stop: the one after the last.

    Yields:
      An iterator of what `MetaBatchReader` gives. Threads and processes have ended when
      the context has. With one thread, each is fetched when it is asked for.

    Raises:
      InputError: if grain is needed, and not installed.
    """
    read = MetaBatchReader(sampler, key, tasks)
    fetching = sampler.fetching or Fetching()
    if fetching == Fetching():
        yield map(read, range(start, stop))
        return
    grain = _grain()
    batches = grain.MapDataset.source(range(start, stop)).map(read)
    options = grain.ReadOptions(
        num_threads=fetching.threads, prefetch_buffer_size=AHEAD
    )
    batches = batches.to_iter_dataset(options)
    with ExitStack() as stack:
        if fetching.workers:
            batches = _in_workers(batches, fetching.workers)
            stack.enter_context(_children_on_cpu())
        iterator = iter(batches)
        stack.callback(iterator.close)
        yield iterator


class TaskFetcher:
    """`fetch(numbers)`: what the tasks of those numbers are made of, of an evaluation.

    Args:
      sampler: the sampler; a task of number i is drawn with `fold_in(key, i)`, alone.
      key: a PRNG key.
      tasks: how many tasks there are. Numbers beyond repeat others.
    """

    def __init__(self, sampler: StagedSampler, key: Array, tasks: int):
        self._sampler, self._tasks = sampler, tasks

        def draw(sampler: StagedSampler, number: Array) -> PyTree:
            return sampler.draw(jax.random.fold_in(key, number), 1)

        # Compiled for this one: a program for all of them would keep it alive.
        self._draw = jax.jit(jax.vmap(draw, (None, 0)))

    def __call__(self, numbers: np.ndarray) -> PyTree | None:
        """With a leading axis of tasks, keys as data; None if nothing is fetched."""
        if self._sampler.fetching is None:
            return None
        drawn = take_rows(self._draw(for_program(self._sampler), numbers), np.s_[:, 0])
        wanted = int(np.sum(numbers < self._tasks))
        fetched = fetch_on_host(self._sampler, take_rows(drawn, slice(wanted)))
        return take_rows(keys_to_data(fetched), np.arange(len(numbers)) % wanted)

    def like(self, numbers: np.ndarray) -> PyTree | None:
        """What it gives, abstract."""
        if self._sampler.fetching is None:
            return None
        return keys_as_data(self._sampler.fetched_like(len(numbers)))


def task_of(
    sampler: StagedSampler, key: Array, number: Array, fetched: PyTree | None
) -> PyTree:
    """The task of a number, of what a `TaskFetcher` gave for it."""
    if fetched is None:
        own = sampler.draw(jax.random.fold_in(key, number), 1)
    else:
        own = jax.tree.map(lambda x: x[None], data_to_keys(fetched))
    return take_rows(sampler.make(own), 0)


def host_device() -> Any:
    """The CPU as a device of JAX.

    Raises:
      InputError: if JAX was told to leave it out.
    """
    if (cpu := cpu_device()) is None:
        raise InputError(
            "streaming draws on the CPU, which JAX was told to leave out; name it too, "
            "as in JAX_PLATFORMS=cuda,cpu"
        )
    return cpu


def cpu_device() -> Any | None:
    """The CPU as a device of JAX, or None if JAX was told to leave it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def _in_workers(batches: Any, workers: int) -> Any:
    _say_no_profiling()
    options = _grain().MultiprocessingOptions(workers, per_worker_buffer_size=2)
    return batches.mp_prefetch(options, worker_init_fn=_begin_worker)


@contextmanager
def _children_on_cpu() -> Iterator[None]:
    """Sets the platform for the main module, which a worker imports before all else."""
    before = os.environ.get(PLATFORMS)
    os.environ[PLATFORMS] = "cpu"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PLATFORMS]
        else:
            os.environ[PLATFORMS] = before


def _say_no_profiling() -> None:
    """Answers for a flag that grain 0.2.18 reads before it is parsed (its #1355)."""
    from absl import flags

    if PROFILING in flags.FLAGS:
        flags.FLAGS[PROFILING].present = True


def _begin_worker(index: int, count: int) -> None:
    """Keeps a worker off the accelerator, and ends it with its parent."""
    del index, count
    jax.config.update("jax_platforms", "cpu")
    # Ctrl-C goes to all processes; the parent says when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _grain() -> Any:
    try:
        import grain
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading ahead needs {error.name}, which is not installed: "
            "pip install grain"
        ) from error
    return grain
