"""How the tasks of a meta-batch run: how many at a time, and on which devices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from metajax.data.arrays import length
from metajax.data.staging import to_drawn
from metajax.ops.precision import wider
from metajax.training.cutting import (
    Chunk,
    Devices,
    Pool,
    check_chunk,
    check_devices,
    cut,
    everywhere,
    here,
    mapped_work,
    weighted_work,
)
from metajax.types import Array, PyTree

AXIS = "task"  # the name of the devices' axis


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
        chunk; see `metajax.meta_gradient`.
      devices: see `metajax.meta_gradient`; of several processes, all devices of all
        processes, or some of this process's.

    Returns:
      `run(shared, batch) -> tree`, the means. Of a `metajax.data.staging.Drawn`, each
      device makes the tasks of a chunk when it comes to them.

    Raises:
      InputError: if `tasks_per_chunk` is none of these or `devices` is below 1; from
        `run`, if several processes would share some of their devices only.
    """
    check_chunk(tasks_per_chunk)
    devices = check_devices(devices)
    function = jax.jit(function)  # so that it is traced once

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        tasks, sampler = to_drawn(batch)
        work = weighted_work(function, shared, batch)
        pool = everywhere(devices)
        plan = cut(length(tasks), work, tasks_per_chunk, pool)
        like = jax.eval_shape(*work.run(1))

        def total(common: PyTree, chunks: PyTree, weights: Array) -> PyTree:
            shared, sampler = common

            def part(chunk):
                tasks, weights = chunk
                result = function(shared, sampler.make(tasks), weights)
                return jax.tree.map(lambda x: x.astype(wider(x.dtype)), result)

            return _sum(part, (chunks, weights))

        args = (shared, sampler), plan.split(tasks), plan.weights()

        if plan.devices > 1 or pool.chosen:
            result = _summed_over(total, plan.devices, pool, args)
        else:
            result = total(*args)
        return jax.tree.map(lambda x, y: x.astype(y.dtype), result, like)

    return run


def map_over_tasks(
    function: Callable[[PyTree, PyTree], PyTree],
    *,
    tasks_per_chunk: Chunk = "auto",
    devices: Any = 1,
    pool: Callable[[Any], Pool] = here,
) -> Callable[[PyTree, PyTree], PyTree]:
    """Runs a function whose results have a leading task axis, like `mean_over_tasks`.

    Args:
      function: `function(shared, batch) -> tree`.
      tasks_per_chunk: see `mean_over_tasks`.
      devices: at most so many devices share the tasks.
      pool: which ones those are: by default, this process's; or `everywhere`.

    Returns:
      A function with the same arguments and result.

    Raises:
      InputError: if `tasks_per_chunk` is none of these, or `devices` is below 1.
    """
    check_chunk(tasks_per_chunk)
    devices = check_devices(devices)
    function = jax.jit(function)

    def run(shared: PyTree, batch: PyTree) -> PyTree:
        shared_by = pool(devices)
        work = mapped_work(function, shared, batch)
        plan = cut(length(batch), work, tasks_per_chunk, shared_by)

        def part(shared: PyTree, chunks: PyTree) -> PyTree:
            return jax.lax.map(partial(function, shared), chunks)

        if plan.devices > 1 or shared_by.chosen:
            part = _sharded(part, shared_by.devices[: plan.devices], P(AXIS))
        result = part(shared, plan.split(batch))
        return jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2)[: plan.tasks], result)

    return run


def layout(tree: PyTree, devices: int) -> PyTree:
    """How arrays are laid over devices: along their longest axis that these divide.

    Args:
      tree: of arrays, abstract or not.
      devices: how many; 1 for arrays that each device has whole.

    Returns:
      A `PartitionSpec` of the axis "task" for each array; an array of no such axis is
      kept whole by each device.

    >>> layout({"kernel": jnp.zeros((3, 8)), "bias": jnp.zeros(3)}, devices=4)
    {'bias': P(), 'kernel': P(None, 'task')}
    """

    def spec(x: Array) -> P:
        axes = [i for i, n in enumerate(x.shape) if devices > 1 and n % devices == 0]
        axis = max(axes, key=lambda i: x.shape[i], default=None)
        return P() if axis is None else P(*[None] * axis, AXIS)

    return jax.tree.map(spec, tree)


def mesh_of(devices: Sequence[Any]) -> Mesh:
    """The devices that share the tasks of a meta-batch, as an axis "task"."""
    types = (AxisType.Auto,)
    return jax.make_mesh((len(devices),), (AXIS,), devices=devices, axis_types=types)


def weighted_sum(weights: Array, values: Array) -> Array:
    """The sum of `values[tasks, ...]` times `weights[tasks]`, in a wide enough type."""
    exact = jnp.issubdtype(values.dtype, jnp.inexact)
    wide = wider(values.dtype) if exact else weights.dtype
    return jnp.tensordot(
        weights.astype(wide), values.astype(wide), 1, precision="highest"
    )


def _sum(function: Callable[[PyTree], PyTree], chunks: PyTree) -> PyTree:
    """The sum of a function over a leading axis, one by one."""
    first = jax.tree.map(lambda x: x[0], chunks)
    if length(chunks) == 1:
        return function(first)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first)
    )

    def add(total: PyTree, chunk: PyTree):
        return jax.tree.map(jnp.add, total, function(chunk)), None

    return jax.lax.scan(add, zeros, chunks)[0]


def _summed_over(
    total: Callable[..., PyTree], devices: int, pool: Pool, args: tuple[Any, ...]
) -> PyTree:
    """The sum of `total(*args)` over so many devices of a pool."""
    specs = layout(jax.eval_shape(total, *args), devices if pool.sharded else 1)

    def summed(*args: PyTree) -> PyTree:
        return jax.tree.map(_summed, total(*args), specs)

    return _sharded(summed, pool.devices[:devices], specs)(*args)


def _summed(x: Array, spec: P) -> Array:
    """The sum over the devices, of which each keeps what `spec` says."""
    if AXIS not in spec:
        return jax.lax.psum(x, AXIS)
    place = spec.index(AXIS)
    return jax.lax.psum_scatter(x, AXIS, scatter_dimension=place, tiled=True)


def _sharded(function: Callable, devices: Sequence[Any], out: PyTree) -> Callable:
    """`function(shared, *chunks)` with the chunks over the devices."""
    mesh = mesh_of(devices)

    def run(shared: PyTree, *chunks: PyTree) -> PyTree:
        # With check_vma, the inner gradient of replicated parameters would be summed
        # over the devices: tasks would mix.
        return jax.shard_map(
            function,
            mesh=mesh,
            in_specs=(P(), *[P(AXIS)] * len(chunks)),
            out_specs=out,
            check_vma=False,
        )(shared, *chunks)

    return run
