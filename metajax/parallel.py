"""How the tasks of a meta-batch run: how many at a time, and on which devices."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from metajax.errors import InputError
from metajax.ops.bilinear import wider
from metajax.types import PyTree, check_count

Chunk = int | Literal["auto"] | None
# On a CPU, tasks at a time pay while their arrays stay in cache; elsewhere while they
# fit in memory, of which parameters and the rest need a share too.
CACHE_BYTES = 8 * 2**20
MEMORY_SHARE = 0.5


def check_chunk(tasks: int, chunk: Chunk) -> None:
    """Checks that chunks of `chunk` tasks make up a meta-batch of `tasks`.

    Raises:
      InputError: if they do not.
    """
    if chunk is None or chunk == "auto":
        return
    if isinstance(chunk, str):
        raise InputError(
            f'tasks_per_chunk must be a number, "auto" or None, got {chunk!r}'
        )
    check_count("tasks_per_chunk", chunk, least=1)
    if tasks % chunk:
        raise InputError(
            f"tasks_per_chunk must divide the {tasks} tasks of a meta-batch, got "
            f"{chunk}"
        )


def mean_over_tasks(
    function: Callable[[PyTree, PyTree], PyTree],
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: int = 1,
) -> Callable[[PyTree, PyTree], PyTree]:
    """Runs a function of a meta-batch in chunks and on several devices.

    Args:
      function: `function(shared, batch) -> tree`, each leaf a mean over the tasks, the
        leading axis of every leaf of `batch`.
      tasks_per_chunk: tasks at a time; the means of the chunks are averaged, so that
        memory grows with the chunk. None for all at once. "auto" takes as many as
        should stay in cache on a CPU, and in half the memory elsewhere, by an estimate
        of what one task allocates.
      devices: at most so many local devices share the tasks; fewer if they do not
        divide the tasks, or if there is too little work to share.

    Returns:
      A function with the same arguments and result.
    """

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        spread, chunk = _plan(function, shared, batch, tasks_per_chunk, devices)
        part = _in_chunks(function, chunk)

        def mean(shared: PyTree, batch: PyTree) -> PyTree:
            return jax.lax.pmean(part(shared, batch), "task")

        return (part if spread == 1 else _sharded(mean, spread, P()))(shared, batch)

    return run


def map_over_tasks(
    function: Callable[[PyTree, PyTree], PyTree],
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: int = 1,
) -> Callable[[PyTree, PyTree], PyTree]:
    """`mean_over_tasks` of a function whose results have a leading task axis.

    Args:
      function: `function(shared, batch) -> tree`.
      tasks_per_chunk: see `mean_over_tasks`.
      devices: see `mean_over_tasks`.

    Returns:
      A function with the same arguments and result.
    """

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        spread, chunk = _plan(function, shared, batch, tasks_per_chunk, devices)

        def part(shared: PyTree, batch: PyTree) -> PyTree:
            found = jax.lax.map(partial(function, shared), _split(batch, chunk))
            return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

        return (part if spread == 1 else _sharded(part, spread, P("task")))(
            shared, batch
        )

    return run


def allocated_bytes(function: Callable, *args: PyTree) -> int:
    """The bytes of every array that a function computes, found by tracing alone.

    The body of a loop counts once, and what the loop stacks counts whole. It is an
    estimate for choosing chunks: the compiler keeps fewer arrays alive at a time, and
    what it makes inside an operation is not seen.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.

    Returns:
      A number of bytes.

    >>> allocated_bytes(lambda x: jnp.sin(x) + 1.0, jnp.zeros(10))
    80
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return sum(
        int(np.prod(var.aval.shape)) * var.aval.dtype.itemsize
        for equation in _equations(jaxpr)
        for var in equation.outvars
        if hasattr(var.aval, "dtype")
    )


def _equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr, and of those that they hold."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params):
            if isinstance(value, Jaxpr | ClosedJaxpr):
                yield from _equations(getattr(value, "jaxpr", value))


def _budget() -> int:
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return CACHE_BYTES
    stats = device.memory_stats() or {}
    return int(MEMORY_SHARE * stats.get("bytes_limit", 2**34))


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return max(d for d in range(1, min(number, most) + 1) if number % d == 0)


def _plan(
    function: Callable, shared: PyTree, batch: PyTree, chunk: Chunk, devices: int
) -> tuple[int, int]:
    """On how many devices, and how many tasks at a time on each."""
    tasks = jax.tree.leaves(batch)[0].shape[0]
    check_chunk(tasks, chunk)
    if chunk != "auto" and devices == 1:
        return 1, chunk or tasks
    one = jax.eval_shape(lambda x: jax.tree.map(lambda y: y[:1], x), batch)
    most = max(1, _budget() // max(1, allocated_bytes(function, shared, one)))
    # A device is worth its while when it gets a chunk of its own.
    spread = _divisor(tasks, min(devices, max(1, tasks // most)))
    wanted = most if chunk == "auto" else chunk or tasks
    return spread, _divisor(tasks // spread, wanted)


def _split(batch: PyTree, chunk: int) -> PyTree:
    """`[tasks, ...] -> [tasks / chunk, chunk, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), batch)


def _in_chunks(function: Callable, chunk: int) -> Callable:
    """The mean over chunks of a function that takes a mean over tasks."""

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        chunks = _split(batch, chunk)
        count = jax.tree.leaves(chunks)[0].shape[0]
        if count == 1:
            return function(shared, batch)
        one = jax.tree.map(lambda x: x[0], chunks)
        like = jax.eval_shape(function, shared, one)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, wider(x.dtype)), like)

        def add(total: PyTree, part: PyTree):
            found = function(shared, part)
            return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, found), None

        total, _ = jax.lax.scan(add, zeros, chunks)
        return jax.tree.map(lambda t, x: (t / count).astype(x.dtype), total, like)

    return run


def _sharded(function: Callable, devices: int, out: P) -> Callable:
    mesh = jax.make_mesh(
        (devices,),
        ("task",),
        devices=jax.local_devices()[:devices],
        axis_types=(AxisType.Auto,),
    )
    # With check_vma, the inner gradient of replicated parameters would be summed over
    # the devices: tasks would mix.
    return jax.shard_map(
        function, mesh=mesh, in_specs=(P(), P("task")), out_specs=out, check_vma=False
    )
