"""How a meta-batch is cut: so many tasks at a time, on so many devices."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.estimate import allocated_bytes, live_bytes, tiled_bytes, whole_bytes
from metajax.sampling import as_drawn
from metajax.targets.chips import usable_bytes
from metajax.types import Array, PyTree, check_count

Chunk = int | Literal["auto"] | None
Devices = int | Sequence[Any]  # how many, or which
# A function of tasks and its abstract arguments, of so many tasks.
Work = Callable[[int], tuple[Any, ...]]
# On a CPU, tasks at a time pay while their arrays stay in cache; elsewhere while they
# fit in memory, of which parameters and the rest need a share too.
CACHE_BYTES = 8 * 2**20
MEMORY_SHARE = 0.5
# Devices that share tasks meet in each meta-step, so each must have so much to do.
WORTH_BYTES = 2 * 2**20


def check_chunk(chunk: Chunk) -> None:
    """Checks a number of tasks at a time.

    Raises:
      InputError: if it is not "auto", None, or a whole number of at least 1.
    """
    if chunk is None or chunk == "auto":
        return
    if isinstance(chunk, str):
        raise InputError(
            f'tasks_per_chunk must be a number, "auto" or None, got {chunk!r}'
        )
    check_count("tasks_per_chunk", chunk, least=1)


def check_devices(devices: Devices) -> None:
    """Checks a number of devices, or devices.

    Raises:
      InputError: if it is below 1, or there are none.
    """
    count = len(devices) if isinstance(devices, Sequence) else devices
    check_count("devices", count, least=1)


class Cut(NamedTuple):
    """How a meta-batch is cut: `[chunks, chunk, ...]`, the chunks over the devices."""

    tasks: int
    chunks: int
    chunk: int
    devices: int

    def split(self, batch: PyTree) -> PyTree:
        """In chunks; tasks that are wanting come again from the start."""
        order = np.arange(self.chunks * self.chunk) % self.tasks

        def cut(x: Array) -> Array:
            x = x if len(order) == self.tasks else x[order]
            return x.reshape(self.chunks, self.chunk, *x.shape[1:])

        return jax.tree.map(cut, batch)

    def weights(self) -> Array:
        """1 / B for each task, and zero where it comes again, cut likewise."""
        weights = np.zeros(self.chunks * self.chunk)
        weights[: self.tasks] = 1 / self.tasks
        return jnp.asarray(weights.reshape(self.chunks, self.chunk), float)


class Pool(NamedTuple):
    """The devices that may share tasks, and how many must."""

    devices: Sequence[Any]
    least: int = 1


def here(devices: int) -> Pool:
    """At most so many of this process's."""
    return Pool(jax.local_devices()[:devices])


def everywhere(devices: Devices) -> Pool:
    """So many of all; of several processes all must share, or this one works alone."""
    if isinstance(devices, Sequence):
        return Pool(devices)
    count = jax.device_count()
    if jax.process_count() == 1 or devices == 1:
        return here(devices)
    if devices < count:
        raise InputError(
            f"devices must be all {count} of the {jax.process_count()} processes, or 1 "
            f"to work alone, got {devices}"
        )
    return Pool(jax.devices(), least=count)


def weighted_work(function: Callable, shared: PyTree, batch: PyTree) -> Work:
    """The work of `metajax.parallel.mean_over_tasks`."""
    tasks, sampler = as_drawn(batch)

    def work(count: int) -> tuple[Any, ...]:
        made = jax.eval_shape(sampler.make, _first(tasks, count))
        weights = jax.eval_shape(lambda: jnp.zeros(count))
        return function, shared, made, weights

    return work


def mapped_work(function: Callable, shared: PyTree, batch: PyTree) -> Work:
    """The work of `metajax.parallel.map_over_tasks`."""
    return lambda count: (function, shared, _first(batch, count))


def cut(tasks: int, work: Work, chunk: Chunk, pool: Pool) -> Cut:
    """How to cut a meta-batch.

    Args:
      tasks: how many there are.
      work: what is done with them.
      chunk: see `metajax.parallel.mean_over_tasks`.
      pool: the devices.
    """
    devices = len(pool.devices)
    if devices > 1:
        worth = max(pool.least, tasks * allocated_bytes(*work(1)) // WORTH_BYTES)
        devices = min(devices, worth)
    each = -(-tasks // devices)
    most = _fitting(work, pool.devices[0]) if chunk == "auto" else chunk
    chunks = -(-each // min(most or each, each))
    # As even as can be, and no device for repetitions alone if it can be left out.
    devices = max(pool.least, -(-tasks // each))
    return Cut(tasks, chunks * devices, -(-each // chunks), devices)


def _fitting(work: Work, device: Any) -> int:
    """How many tasks at a time a device should take."""
    if device.platform == "cpu":
        return max(1, CACHE_BYTES // max(1, allocated_bytes(*work(1))))
    size = tiled_bytes if device.platform == "tpu" else whole_bytes
    return max(1, _budget(device) // max(1, live_bytes(*work(1), size=size)))


def _budget(device: Any) -> int:
    """Bytes that the tasks of a chunk may take, not of a CPU."""
    return int(MEMORY_SHARE * usable_bytes(device))


def length(tree: PyTree) -> int:
    """Of the leading axis."""
    return jax.tree.leaves(tree)[0].shape[0]


def _first(batch: PyTree, count: int) -> PyTree:
    """The first tasks of a meta-batch, abstract."""
    return jax.eval_shape(lambda x: jax.tree.map(lambda y: y[:count], x), batch)
