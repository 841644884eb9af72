"""What a compiled program runs and moves, read from the text of its HLO."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from metajax.targets.hlo import Computation, Line, Module, parse
from metajax.targets.traffic import moved

# Operations that run nothing: they only name what is in memory.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "domain"),
}
FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "Sharding", "SPMDFullToShardShape")
COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast", "ragged-all-to-all"),
)
NO_ESTIMATE = 10**12  # cycles that the compiler writes where it has no estimate


class Instruction(NamedTuple):
    """An instruction that a program runs.

    Attributes:
      name: its name in the text.
      opcode: what it does; the `-start` and `-done` of an operation count as one.
      times: how often it runs, with the repetitions of loops.
      bytes: the bytes of main memory that each run reads and writes.
      cycles: the compiler's estimate for each run; 0 if it makes none.
      operation: the JAX operation that it comes from; "" if the text does not say.
    """

    name: str
    opcode: str
    times: int
    bytes: int
    cycles: int
    operation: str


@dataclass(frozen=True)
class Program:
    """What a program runs, in order.

    Attributes:
      instructions: the instructions that run, each listed once.
      collectives: how often devices exchange arrays, by kind.
    """

    instructions: tuple[Instruction, ...]
    collectives: dict[str, int]

    @property
    def launches(self) -> int:
        """The number of instructions run, each a kernel or a copy."""
        return sum(each.times for each in self.instructions)

    @property
    def bytes(self) -> int:
        """The bytes of operands and results in main memory."""
        return sum(each.times * each.bytes for each in self.instructions)

    @property
    def cycles(self) -> int:
        """The compiler's estimate; 0 if it makes none, as for a GPU."""
        return sum(each.times * each.cycles for each in self.instructions)

    def dearest(self, count: int) -> list[Instruction]:
        """The instructions with the most cycles, or bytes if there is no estimate."""
        by_cycles = self.cycles > 0

        def cost(each: Instruction) -> int:
            return each.times * (each.cycles if by_cycles else each.bytes)

        return sorted(self.instructions, key=cost, reverse=True)[:count]


def read_program(text: str) -> Program:
    """Reads what a compiled program runs.

    Each instruction counts as often as its loops run. Bytes are those of operands and
    results in main memory. If a fusion only slices an operand, the slices count; if it
    updates a result in place, the updates count. The dearest branch of a conditional
    counts.

    Args:
      text: `compiled.as_text()`.

    Returns:
      A `Program`.

    >>> text = '''
    ... ENTRY %main (x: f32[8]) -> f32[8] {
    ...   %x = f32[8]{0} parameter(0)
    ...   ROOT %copy.1 = f32[8]{0} copy(%x)
    ... }'''
    >>> read_program(text).bytes
    64
    """
    module = parse(text)
    collectives: Counter[str] = Counter()
    for line, _, times in _run(module, module.entry, 1, fused=True):
        kind = line.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            collectives[kind] += times
    return Program(tuple(_instructions(module, module.entry, 1)), dict(collectives))


def product_operations(text: str) -> int:
    """Floating-point operations of all products and convolutions that a program runs.

    A multiplication counts as two, also one by a zero of padding.

    Args:
      text: the HLO before compilation, where no product is inside a kernel.

    Returns:
      The number of operations.

    >>> text = '''
    ... ENTRY %main (x: f32[8,3], y: f32[3,5]) -> f32[8,5] {
    ...   %x = f32[8,3] parameter(0)
    ...   %y = f32[3,5] parameter(1)
    ...   ROOT %dot.1 = f32[8,5] dot(%x, %y), lhs_contracting_dims={1}
    ... }'''
    >>> product_operations(text)
    240
    """
    module = parse(text)
    return sum(
        times * _products(line, within)
        for line, within, times in _run(module, module.entry, 1, fused=True)
    )


def _products(line: Line, within: Computation) -> int:
    if line.opcode not in ("dot", "convolution"):
        return 0
    left, right = (within[name].buffers[0].shape for name in line.operands[:2])
    if line.opcode == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
        summed = [left[int(n)] for n in axes[1].split(",") if n] if axes else []
    else:
        labels = re.search(r"dim_labels=\w+_(\w+)->", line.rest)
        out = labels[1].index("o") if labels else len(right) - 1
        summed = [n for axis, n in enumerate(right) if axis != out]
    return 2 * math.prod(line.buffers[0].shape) * math.prod(summed)


def _run(
    module: Module, name: str, times: int, *, fused: bool
) -> Iterator[tuple[Line, Computation, int]]:
    """Each line that runs, its computation and how often; inside fusions if `fused`."""
    within = module.computations.get(name, {})
    for line in within.values():
        yield line, within, times
        if line.opcode == "while":
            trips = times * _trips(module, line)
            yield from _run(module, line.called("body"), trips, fused=fused)
        elif line.opcode == "conditional":
            branch = _dearest_branch(module, line)
            yield from _run(module, branch, times, fused=fused)
        elif line.opcode in ("call", "async-start"):
            called = line.called("to_apply") or line.called("calls")
            yield from _run(module, called, times, fused=fused)
        elif line.opcode == "fusion" and fused:
            yield from _run(module, line.called("calls"), times, fused=fused)


def _instructions(module: Module, name: str, times: int) -> Iterator[Instruction]:
    for line, within, runs in _run(module, name, times, fused=False):
        if not _is_free(line):
            yield _instruction(module, within, line, runs)


def _is_free(line: Line) -> bool:
    """Whether a line runs nothing itself."""
    if line.opcode in ("while", "conditional", "call", "async-done", "async-update"):
        return True
    if line.opcode == "custom-call":
        return any(f'"{target}"' in line.rest for target in FREE_CALLS)
    return line.opcode in FREE or line.opcode.endswith("-start")


def _instruction(
    module: Module, within: Computation, line: Line, times: int
) -> Instruction:
    cycles = re.search(r'"estimated_cycles":"(\d+)"', line.rest)
    estimate = int(cycles[1]) if cycles else 0
    operation = re.search(r'op_name="([^"]*)"', line.rest)
    return Instruction(
        name=line.name,
        opcode=line.opcode.removesuffix("-done"),
        times=times,
        bytes=moved(module, within, line),
        cycles=estimate if estimate < NO_ESTIMATE else 0,
        operation=operation[1] if operation else "",
    )


def _trips(module: Module, loop: Line) -> int:
    """How often a loop runs, by the compiler or else by the bound of its condition."""
    if known := re.search(r"known_trip_count[^\d]*(\d+)", loop.rest):
        return int(known[1])
    bounds = [
        int(line.argument)
        for line, _, _ in _run(module, loop.called("condition"), 1, fused=True)
        if line.opcode == "constant" and line.argument.isdecimal()
    ]
    return max([1, *bounds])


def _dearest_branch(module: Module, line: Line) -> str:
    def cost(name: str) -> tuple[int, int]:
        branch = Program(tuple(_instructions(module, name, 1)), {})
        return branch.cycles, branch.bytes

    return max(line.all_called, key=cost, default="")
