"""How a meta-batch is cut: so many tasks at a time, on so many devices."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.data.staging import to_drawn
from metajax.errors import InputError
from metajax.ops.estimate import allocated_bytes, live_bytes, tiled_bytes, whole_bytes
from metajax.ops.forms import Backend
from metajax.targets.chips import usable_bytes
from metajax.types import Array, PyTree

Chunk = int | Literal["auto"] | None
Devices = int | Sequence[Any]  # how many, or which
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
        """In chunks; the last is padded by repeating tasks, from the first on."""
        order = np.arange(self.chunks * self.chunk) % self.tasks

        def cut(x: Array) -> Array:
            x = x if len(order) == self.tasks else x[order]
            return x.reshape(self.chunks, self.chunk, *x.shape[1:])

        return jax.tree.map(cut, batch)

    def weights(self) -> Array:
        """1 / B for each task, and zero where it is repeated, cut likewise."""
        weights = np.zeros(self.chunks * self.chunk)
        weights[: self.tasks] = 1 / self.tasks
        return jnp.asarray(weights.reshape(self.chunks, self.chunk), float)


class Pool(NamedTuple):
    """The devices that may share tasks.

    Attributes:
      devices: those devices.
      least: how many of them must share.
      chosen: whether the work must run on them even if it is not shared.
    """

    devices: Sequence[Any]
    least: int = 1
    chosen: bool = False


def here(devices: int) -> Pool:
    """At most so many of this process's."""
    return Pool(jax.local_devices()[:devices])


def everywhere(devices: Devices) -> Pool:
    """So many of all; of several processes all must share, or this one works alone.

    Raises:
      InputError: if several processes would share some of their devices only.
    """
    if isinstance(devices, Sequence):
        return _chosen(devices)
    count = jax.device_count()
    if jax.process_count() == 1 or devices == 1:
        return here(devices)
    if devices < count:
        raise _not_all(devices)
    return Pool(jax.devices(), least=count)


def _chosen(devices: Sequence[Any]) -> Pool:
    """The given devices, which may be absent ones to compile for."""
    local, everyone = jax.local_devices(), jax.devices()
    if not any(each in everyone and each not in local for each in devices):
        return Pool(devices, chosen=True)
    if not all(each in devices for each in everyone):
        raise _not_all(devices)
    return Pool(devices, least=len(devices), chosen=True)


def _not_all(devices: Devices) -> InputError:
    return InputError(
        f"devices must be all {jax.device_count()} of the {jax.process_count()} "
        f"processes, or 1 to work alone, got {devices}"
    )


class Work(NamedTuple):
    """What is done with the tasks of a chunk.

    Each attribute is called with a number of tasks and returns
    `(function, shared, *inputs)`, the arguments abstract.

    Attributes:
      run: the function of the episodes.
      whole: the function of what the episodes are made of.
    """

    run: Callable[[int], tuple[Any, ...]]
    whole: Callable[[int], tuple[Any, ...]]


def weighted_work(function: Callable, shared: PyTree, batch: PyTree) -> Work:
    """The work of `metajax.training.parallel.mean_over_tasks`."""
    tasks, sampler = to_drawn(batch)

    def run(count: int) -> tuple[Any, ...]:
        episodes = jax.eval_shape(sampler.make, _first(tasks, count))
        weights = jax.eval_shape(lambda: jnp.zeros(count))
        return function, shared, episodes, weights

    def whole(count: int) -> tuple[Any, ...]:
        def make_and_run(shared: PyTree, drawn: PyTree, weights: Array) -> PyTree:
            return function(shared, sampler.make(drawn), weights)

        weights = jax.eval_shape(lambda: jnp.zeros(count))
        return make_and_run, shared, _first(tasks, count), weights

    return Work(run, whole)


def mapped_work(function: Callable, shared: PyTree, batch: PyTree) -> Work:
    """The work of `metajax.training.parallel.map_over_tasks`."""

    def run(count: int) -> tuple[Any, ...]:
        return function, shared, _first(batch, count)

    return Work(run, run)


def cut(tasks: int, work: Work, chunk: Chunk, pool: Pool) -> Cut:
    """How to cut a meta-batch.

    Args:
      tasks: how many there are.
      work: what is done with them.
      chunk: see `metajax.training.parallel.mean_over_tasks`.
      pool: the devices.
    """
    devices = len(pool.devices)
    if devices > 1:
        worth = max(pool.least, tasks * allocated_bytes(*work.run(1)) // WORTH_BYTES)
        devices = min(devices, worth)
    each = -(-tasks // devices)
    most = _fitting(work, pool.devices[0]) if chunk == "auto" else chunk
    chunks = -(-each // min(most or each, each))
    # Chunks are as even as possible. A device that would only repeat tasks is left out.
    devices = max(pool.least, -(-tasks // each))
    return Cut(tasks, chunks * devices, -(-each // chunks), devices)


def _fitting(work: Work, device: Any) -> int:
    """How many tasks at a time a device should take."""
    if device.platform == "cpu":
        return max(1, CACHE_BYTES // max(1, allocated_bytes(*work.run(1))))
    return max(1, _budget(device) // max(1, task_bytes(work, device.platform)))


def task_bytes(work: Work, backend: Backend) -> int:
    """The bytes that a task needs at one time, by estimate, its inputs included.

    Args:
      work: what is done with it.
      backend: the platform of the device, not a CPU.
    """
    size = tiled_bytes if backend == "tpu" else whole_bytes
    function, shared, *inputs = work.whole(1)
    held = sum(map(size, jax.tree.leaves(inputs)))
    return held + live_bytes(function, shared, *inputs, size=size, backend=backend)


def _budget(device: Any) -> int:
    """Bytes that the tasks of a chunk may take, not of a CPU."""
    return int(MEMORY_SHARE * usable_bytes(device))


def _first(batch: PyTree, count: int) -> PyTree:
    """The first tasks of a meta-batch, abstract."""
    return jax.eval_shape(lambda x: jax.tree.map(lambda y: y[:count], x), batch)
