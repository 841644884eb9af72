"""What a compiled program runs and moves, read from the text of its HLO."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from metajax.targets.hlo import Computation, Line, Module, parse
from metajax.targets.traffic import moved

# What runs nothing: names for what is there, and beginnings of what `-done` ends.
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
      name: in the text.
      opcode: what it does; `-start` and `-done` of one operation are one.
      times: how often it runs, loops counted.
      bytes: of main memory that it reads and writes each time.
      cycles: the compiler's estimate of each time, 0 where it gives none.
      operation: the operation of JAX that it comes from, "" where it is not said.
    """

    name: str
    opcode: str
    times: int
    bytes: int
    cycles: int
    operation: str


@dataclass(frozen=True)
class Program:
    """What a program runs, in the order in which it does.

    Attributes:
      instructions: those that run, each once, with how often.
      collectives: by kind, how often devices exchange arrays.
    """

    instructions: tuple[Instruction, ...]
    collectives: dict[str, int]

    @property
    def launches(self) -> int:
        """Instructions run, a kernel or a copy each."""
        return sum(each.times for each in self.instructions)

    @property
    def bytes(self) -> int:
        """Operands and results in main memory, in bytes."""
        return sum(each.times * each.bytes for each in self.instructions)

    @property
    def cycles(self) -> int:
        """The compiler's estimate; 0 where it makes none, as for a GPU."""
        return sum(each.times * each.cycles for each in self.instructions)

    def dearest(self, count: int) -> list[Instruction]:
        """Those of most cycles, or of most bytes where there are none."""
        by_cycles = self.cycles > 0

        def cost(each: Instruction) -> int:
            return each.times * (each.cycles if by_cycles else each.bytes)

        return sorted(self.instructions, key=cost, reverse=True)[:count]


def read_program(text: str) -> Program:
    """Reads what a compiled program runs.

    Each instruction counts as often as its loops run. Bytes are those of operands and
    results in main memory: of an operand that a fusion only slices, the slices; of a
    result that it updates in place, the updates. Of a conditional's branches, that of
    most cycles or bytes counts.

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

    Two for each multiplication, those by zeros of padding included.

    Args:
      text: of the HLO before compilation, where no product is inside a kernel.

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
    """Every line that runs, where it is, and how often; fusions' own if `fused`."""
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
    """Whether it runs nothing of its own."""
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
    """How often a loop runs: as the compiler says, or up to its condition's bound."""
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
        each = tuple(_instructions(module, name, 1))
        return sum(x.times * x.cycles for x in each), sum(
            x.times * x.bytes for x in each
        )

    return max(line.all_called, key=cost, default="")
