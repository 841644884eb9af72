"""Meta-batches read ahead by grain, in threads or in processes."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import parent_process
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax.data.drawing import Shape, Shown, draw_batch
from metajax.data.records import Shelf
from metajax.data.streaming import Stream, host_device
from metajax.errors import InputError
from metajax.types import Array

THREADS, AHEAD = 4, 8  # that read, and meta-batches they are ahead, in each process
PLATFORMS = "JAX_PLATFORMS"
PROFILING = "grain_enable_multiprocess_worker_profiling"
_drawing = threading.Lock()


class Read(NamedTuple):
    """`read(key) -> (images, turns)`, a meta-batch by the bits of its key.

    Attributes:
      shelf: where the images are.
      counts: `int32[classes]`.
      shape: of an episode.
      tasks: episodes a meta-batch.
      kind: of the key.
      partitionable: whether threefry is, which changes what is drawn.
    """

    shelf: Shelf
    counts: np.ndarray
    shape: Shape
    tasks: int
    kind: Any
    partitionable: bool

    def __call__(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws on the CPU: an accelerator is busy with what was read before."""
        how = self.kind, self.tasks, self.shape
        with (
            _drawing,  # one thread compiles, and drawing is too short to be shared
            jax.default_device(host_device()),
            jax.threefry_partitionable(self.partitionable),
        ):
            drawn = jax.tree.map(np.asarray, _draw(*how, key, self.counts))
        return self.shelf(drawn.classes, drawn.images), drawn.turns


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(kind: Any, tasks: int, shape: Shape, key: Array, counts: Array) -> Shown:
    return draw_batch(jax.random.wrap_key_data(key, impl=kind), tasks, counts, shape)


@contextmanager
def read_ahead(
    stream: Stream, keys: Array, tasks: int
) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Reads a meta-batch a key, in order and ahead of time.

    Args:
      stream: what is read.
      keys: of the meta-batches, `key[steps]`.
      tasks: episodes a meta-batch.

    Yields:
      An iterator of `(images, turns)`, as in `Given`. Threads and processes have ended
      when the context has.

    Raises:
      InputError: if grain is not installed.
    """
    grain = _grain()
    config: Any = jax.config
    read = Read(
        stream.shelf,
        np.asarray(stream.counts),
        stream.shape,
        tasks,
        jax.random.key_impl(keys),
        config.jax_threefry_partitionable,
    )
    bits = np.asarray(jax.random.key_data(keys))
    batches = grain.MapDataset.source(bits).map(read)
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    batches = batches.to_iter_dataset(options)
    with ExitStack() as stack:
        if stream.workers:
            batches = _in_workers(batches, stream.workers)
            stack.enter_context(_children_on_cpu())
        iterator = iter(batches)
        stack.callback(iterator.close)
        yield iterator


def _in_workers(batches: Any, workers: int) -> Any:
    _say_no_profiling()
    options = _grain().MultiprocessingOptions(workers, per_worker_buffer_size=2)
    return batches.mp_prefetch(options, worker_init_fn=_begin_worker)


@contextmanager
def _children_on_cpu() -> Iterator[None]:
    """For the main module, which a worker imports before all else."""
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
    """Keeps a worker off the accelerator, and with its parent."""
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
