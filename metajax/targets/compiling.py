"""Compiling a function for devices that are not here."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from metajax.ops.forms import tracing_for
from metajax.targets.program import Program, product_operations, read_program
from metajax.types import PyTree

# Kernels are timed on the device where there is one; without, XLA takes its defaults.
OPTIONS: dict[str, dict[str, Any]] = {"gpu": {"xla_gpu_autotune_level": 0}, "tpu": {}}


class Compiled(NamedTuple):
    """A program compiled for devices that are not here.

    Attributes:
      text: its HLO.
      program: what it runs, read from that.
      operations: floating-point operations of its products, of one device.
      argument_bytes: of its arguments and of results in memory of their own, on a
        device.
      temporary_bytes: what else it needs there.
      account_bytes: that it reads and writes by XLA's own account, None for a GPU,
        where it keeps none.
      lower_seconds: from the traced function to StableHLO.
      compile_seconds: from there to the program.
    """

    text: str
    program: Program
    operations: int
    argument_bytes: int
    temporary_bytes: int
    account_bytes: int | None
    lower_seconds: float
    compile_seconds: float

    @property
    def memory_bytes(self) -> int:
        """Arguments, results and temporaries."""
        return self.argument_bytes + self.temporary_bytes


def compile_for(devices: Sequence[Any], function: Callable, *args: PyTree) -> Compiled:
    """Compiles a function for devices that are not here.

    Args:
      devices: of `metajax.targets.devices`. Arguments are the same on all of them, as
        `metajax.train_step(devices=devices)` takes them.
      function: a function of arrays, jitted or not.
      *args: its arguments, of arrays or abstract ones.

    Returns:
      A `Compiled`.
    """
    mesh = jax.make_mesh(
        (len(devices),), ("task",), devices=devices, axis_types=(AxisType.Auto,)
    )
    everywhere = NamedSharding(mesh, P())

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

    platform = devices[0].platform
    gpu = platform == "gpu"
    abstract = jax.eval_shape(lambda *args: args, *args)
    jitted: Any = function if hasattr(function, "trace") else jax.jit(function)
    with tracing_for(platform):
        traced = jitted.trace(*jax.tree.map(place, abstract))
    began = time.perf_counter()
    lowered = traced.lower(lowering_platforms=("cuda",)) if gpu else traced.lower()
    middle = time.perf_counter()
    compiled = lowered.compile(compiler_options=OPTIONS[platform])
    ended = time.perf_counter()
    text = compiled.as_text() or ""
    memory: Any = compiled.memory_analysis()
    costs: Any = None if gpu else compiled.cost_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(
        text=text,
        program=read_program(text),
        operations=product_operations(lowered.as_text("hlo") or ""),
        argument_bytes=memory.argument_size_in_bytes + results,
        temporary_bytes=memory.temp_size_in_bytes,
        account_bytes=int(costs["bytes accessed"]) if costs else None,
        lower_seconds=middle - began,
        compile_seconds=ended - middle,
    )
