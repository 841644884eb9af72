"""How a meta-batch is cut into chunks of tasks for each device."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.data.staging import to_drawn
from metajax.errors import InputError, argument
from metajax.ops.estimate import allocated_bytes, live_bytes, tiled_bytes, whole_bytes
from metajax.ops.forms import Backend
from metajax.targets.chips import usable_bytes
from metajax.types import Array, PyTree

Chunk = int | Literal["auto"] | None
Devices = int | Sequence[Any]  # how many, or which
# On a CPU, more tasks at a time pay while their arrays stay in cache; elsewhere, while
# they fit in this share of the memory.
CACHE_BYTES = 8 * 2**20
MEMORY_SHARE = 0.5
# Devices that share tasks exchange gradients in each meta-step. That pays only if each
# has this many bytes to compute.
WORTH_BYTES = 2 * 2**20


def check_chunk(chunk: Chunk) -> None:
    """Checks `tasks_per_chunk`.

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


class Sharded(tuple):
    """Devices that all share every meta-batch, and each keep a part of its sums."""


def check_devices(devices: Devices) -> int | tuple[Any, ...]:
    """Returns a number of devices, or a sequence of them as a tuple.

    Raises:
      InputError: if the number is below 1, or the sequence is empty or not of devices.
    """
    many = isinstance(devices, Sequence) or np.ndim(devices) > 0
    if isinstance(devices, int) or not many:
        return check_count("devices", devices, least=1)
    given = devices if isinstance(devices, Sharded) else tuple(devices)
    if not given or not all(isinstance(each, jax.Device) for each in given):
        raise InputError(
            f"{argument('devices')} must be a whole number or some devices, such as "
            f"jax.devices()[:2], got {devices!r}"
        )
    return given


class Cut(NamedTuple):
    """A meta-batch cut to `[chunks, chunk, ...]`; devices share the first axis."""

    tasks: int
    chunks: int
    chunk: int
    devices: int

    def split(self, batch: PyTree) -> PyTree:
        """Cuts a meta-batch; the last chunk is padded by repeating tasks."""
        order = np.arange(self.chunks * self.chunk) % self.tasks

        def cut(x: Array) -> Array:
            x = x if len(order) == self.tasks else x[order]
            return x.reshape(self.chunks, self.chunk, *x.shape[1:])

        return jax.tree.map(cut, batch)

    def weights(self) -> Array:
        """The weight of each task in the mean, zero where it is repeated; also cut."""
        weights = np.zeros(self.chunks * self.chunk)
        weights[: self.tasks] = 1 / self.tasks
        return jnp.asarray(weights.reshape(self.chunks, self.chunk), float)


class Pool(NamedTuple):
    """The devices that may share tasks.

    Attributes:
      devices: the devices.
      least: how many of them must share.
      chosen: whether the work must run on them even if only one is used.
      sharded: whether each keeps a part of what is summed over the tasks, in place of
        all of it.
    """

    devices: Sequence[Any]
    least: int = 1
    chosen: bool = False
    sharded: bool = False


def here(devices: int) -> Pool:
    """At most `devices` of this process's devices."""
    return Pool(jax.local_devices()[:devices])


def everywhere(devices: Devices) -> Pool:
    """The devices of all processes, which must share them all or use one each.

    Raises:
      InputError: see `check_devices`, or if several processes would share only some of
        their devices.
    """
    devices = check_devices(devices)
    if isinstance(devices, Sharded):
        return Pool(devices, least=len(devices), chosen=True, sharded=True)
    if isinstance(devices, tuple):
        return _chosen(devices)
    count = jax.device_count()
    if jax.process_count() == 1 or devices == 1:
        return here(devices)
    if devices < count:
        raise _not_all(devices)
    return Pool(jax.devices(), least=count)


def _chosen(devices: Sequence[Any]) -> Pool:
    """The given devices, which may be ones to compile for that are not here."""
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
    """The work on the tasks of a chunk, for estimates of its memory.

    Each attribute takes a number of tasks and returns `(function, shared, *inputs)`, a
    function and its abstract arguments.

    Attributes:
      run: the function of finished episodes.
      whole: the function that also makes the episodes.
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
    """Decides how to cut a meta-batch.

    Args:
      tasks: the number of tasks.
      work: the work on them.
      chunk: see `metajax.training.parallel.mean_over_tasks`.
      pool: the devices.

    Returns:
      A `Cut`.
    """
    devices = len(pool.devices)
    if devices > 1:
        worth = max(pool.least, tasks * allocated_bytes(*work.run(1)) // WORTH_BYTES)
        devices = min(devices, worth)
    each = -(-tasks // devices)
    most = _fitting(work, pool.devices[0]) if chunk == "auto" else chunk
    chunks = -(-each // min(most or each, each))
    # Chunks are as even as possible; a device that would only repeat tasks is left out.
    devices = max(pool.least, -(-tasks // each))
    return Cut(tasks, chunks * devices, -(-each // chunks), devices)


def _fitting(work: Work, device: Any) -> int:
    """How many tasks a device should take at a time."""
    if device.platform == "cpu":
        return max(1, CACHE_BYTES // max(1, allocated_bytes(*work.run(1))))
    return max(1, _budget(device) // max(1, task_bytes(work, device.platform)))


def task_bytes(work: Work, backend: Backend) -> int:
    """Estimates the bytes that a task needs at one time, with its inputs.

    Args:
      work: the work on it.
      backend: the platform of the device, not a CPU.

    Returns:
      A number of bytes.
    """
    size = tiled_bytes if backend == "tpu" else whole_bytes
    function, shared, *inputs = work.whole(1)
    read = sum(map(size, jax.tree.leaves(inputs)))
    return read + live_bytes(function, shared, *inputs, size=size, backend=backend)


def _budget(device: Any) -> int:
    """The bytes that a chunk may take on a device that is not a CPU."""
    return int(MEMORY_SHARE * usable_bytes(device))


def _first(batch: PyTree, count: int) -> PyTree:
    """The first tasks of a meta-batch, abstract."""
    return jax.eval_shape(lambda x: jax.tree.map(lambda y: y[:count], x), batch)
