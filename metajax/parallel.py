"""How the tasks of a meta-batch run: how many at a time, and on which devices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from metajax.errors import InputError
from metajax.estimate import allocated_bytes
from metajax.ops.precision import wider
from metajax.sampling import as_drawn
from metajax.targets.chips import usable_bytes
from metajax.types import Array, PyTree, check_count

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


def mean_over_tasks(
    function: Callable[[PyTree, PyTree, Array], PyTree],
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: Devices = 1,
) -> Callable[[PyTree, PyTree], PyTree]:
    """Runs a function of a meta-batch in chunks and on several devices.

    Args:
      function: `function(shared, batch, weights) -> tree`, each leaf a sum over the
        tasks, the leading axis of every leaf of `batch`, times `weights[tasks]`. The
        weights are 1/B; where B tasks do not fill the chunks, some tasks come again
        with weight zero.
      tasks_per_chunk: at most so many tasks at a time, so that memory grows with the
        chunk. None for all at once. "auto" takes as many as should stay in cache on a
        CPU, and in half the memory elsewhere, by an estimate of what one task
        allocates.
      devices: at most so many devices share the tasks; fewer if there is too little
        work to share. Of several processes (`jax.distributed`), all devices of all
        processes, or one. Or the devices themselves, which may be absent ones
        (`metajax.targets`) that the function is to be compiled for.

    Returns:
      `run(shared, batch) -> tree`, the means. Of a `metajax.sampling.Drawn`, each
      device makes the tasks of a chunk when it comes to them.

    Raises:
      InputError: if `tasks_per_chunk` is none of these, `devices` is below 1, or more
        than one but not all of several processes'.
    """
    check_chunk(tasks_per_chunk)
    check_devices(devices)
    function = jax.jit(function)  # what is jitted is traced once

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        tasks, sampler = as_drawn(batch)
        made = jax.eval_shape(sampler.make, _first(tasks))
        one = (shared, made, jax.eval_shape(lambda: jnp.zeros(1)))
        size = partial(allocated_bytes, function, *one)
        pool = _everywhere(devices)
        plan = _plan(_length(tasks), size, tasks_per_chunk, pool)
        like = jax.eval_shape(function, *one)

        def total(common: PyTree, chunks: PyTree, weights: Array) -> PyTree:
            shared, sampler = common

            def part(chunk):
                tasks, weights = chunk
                found = function(shared, sampler.make(tasks), weights)
                return jax.tree.map(lambda x: x.astype(wider(x.dtype)), found)

            return _sum(part, (chunks, weights))

        args = (shared, sampler), plan.split(tasks), plan.weights()

        if plan.devices > 1:

            def everywhere(*args: PyTree) -> PyTree:
                return jax.lax.psum(total(*args), "task")

            found = _sharded(everywhere, pool.devices[: plan.devices], P())(*args)
        else:
            found = total(*args)
        return jax.tree.map(lambda x, y: x.astype(y.dtype), found, like)

    return run


def map_over_tasks(
    function: Callable[[PyTree, PyTree], PyTree],
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: int = 1,
) -> Callable[[PyTree, PyTree], PyTree]:
    """Runs a function whose results have a leading task axis, like `mean_over_tasks`.

    Args:
      function: `function(shared, batch) -> tree`.
      tasks_per_chunk: see `mean_over_tasks`.
      devices: at most so many of this process's devices share the tasks.

    Returns:
      A function with the same arguments and result.

    Raises:
      InputError: if `tasks_per_chunk` is none of these, or `devices` is below 1.
    """
    check_chunk(tasks_per_chunk)
    check_count("devices", devices, least=1)
    function = jax.jit(function)

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        plan = cut(function, shared, batch, tasks_per_chunk, devices)

        def part(shared: PyTree, chunks: PyTree) -> PyTree:
            return jax.lax.map(partial(function, shared), chunks)

        if plan.devices > 1:
            part = _sharded(part, jax.local_devices()[: plan.devices], P("task"))
        found = part(shared, plan.split(batch))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: plan.tasks], found)

    return run


def weighted_sum(weights: Array, values: Array) -> Array:
    """The sum of `values[tasks, ...]` times `weights[tasks]`, in a wide enough type."""
    exact = jnp.issubdtype(values.dtype, jnp.inexact)
    wide = wider(values.dtype) if exact else weights.dtype
    return jnp.tensordot(
        weights.astype(wide), values.astype(wide), 1, precision="highest"
    )


def cut(
    function: Callable, shared: PyTree, batch: PyTree, chunk: Chunk, devices: int
) -> "Cut":
    """How `map_over_tasks` would cut a meta-batch for a function of it.

    Args:
      function: `function(shared, batch) -> tree`.
      shared: see there.
      batch: see there.
      chunk: see there.
      devices: see there.

    Returns:
      The `Cut`.
    """
    size = partial(allocated_bytes, function, shared, _first(batch))
    return _plan(_length(batch), size, chunk, _here(devices))


def _length(tree: PyTree) -> int:
    """Of the leading axis."""
    return jax.tree.leaves(tree)[0].shape[0]


def _first(batch: PyTree) -> PyTree:
    """A meta-batch of one, abstract."""
    return jax.eval_shape(lambda x: jax.tree.map(lambda y: y[:1], x), batch)


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


def _here(devices: int) -> Pool:
    """At most so many of this process's."""
    return Pool(jax.local_devices()[:devices])


def _everywhere(devices: Devices) -> Pool:
    """So many of all; of several processes all must share, or this one works alone."""
    if isinstance(devices, Sequence):
        return Pool(devices)
    count = jax.device_count()
    if jax.process_count() == 1 or devices == 1:
        return _here(devices)
    if devices < count:
        raise InputError(
            f"devices must be all {count} of the {jax.process_count()} processes, or 1 "
            f"to work alone, got {devices}"
        )
    return Pool(jax.devices(), least=count)


def _plan(tasks: int, size: Callable[[], int], chunk: Chunk, pool: Pool) -> Cut:
    """For tasks of `size()` bytes."""
    devices = len(pool.devices)
    if devices > 1 or chunk == "auto":
        one = max(1, size())
        worth = max(pool.least, tasks * one // WORTH_BYTES)
        devices = min(devices, worth)
        most = max(1, _budget(pool.devices[0]) // one) if chunk == "auto" else chunk
    else:
        most = chunk
    each = -(-tasks // devices)
    chunks = -(-each // min(most or each, each))
    # As even as can be, and no device for repetitions alone if it can be left out.
    devices = max(pool.least, -(-tasks // each))
    return Cut(tasks, chunks * devices, -(-each // chunks), devices)


def _budget(device: Any) -> int:
    """Bytes that the tasks of a chunk may take."""
    if device.platform == "cpu":
        return CACHE_BYTES
    return int(MEMORY_SHARE * usable_bytes(device))


def _sum(function: Callable[[PyTree], PyTree], chunks: PyTree) -> PyTree:
    """The sum of a function over a leading axis, one by one."""
    first = jax.tree.map(lambda x: x[0], chunks)
    if _length(chunks) == 1:
        return function(first)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first)
    )

    def add(total: PyTree, chunk: PyTree):
        return jax.tree.map(jnp.add, total, function(chunk)), None

    return jax.lax.scan(add, zeros, chunks)[0]


def _sharded(function: Callable, devices: Sequence[Any], out: P) -> Callable:
    """`function(shared, *chunks)` with the chunks over the devices."""
    mesh = jax.make_mesh(
        (len(devices),), ("task",), devices=devices, axis_types=(AxisType.Auto,)
    )

    def run(shared: PyTree, *chunks: PyTree) -> PyTree:
        # With check_vma, the inner gradient of replicated parameters would be summed
        # over the devices: tasks would mix.
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(P(), *[P("task")] * len(chunks)),
            out_specs=out,
            check_vma=False,
        )(shared, *chunks)

    return run
