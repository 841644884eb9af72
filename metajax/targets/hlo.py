"""The text of an HLO module, as XLA prints it: computations, instructions, shapes."""

import math
import re
from typing import NamedTuple

HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{\s*$")
LINE = re.compile(
    r"^\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) "
    r"(?P<opcode>[a-z][a-z\-0-9]*)\((?P<operands>[^)]*)\)(?P<rest>.*)$"
)
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
NAME = re.compile(r"%?([A-Za-z_][\w.\-]*)")
COMMENT = re.compile(r"/\*.*?\*/")  # every fifth of a list has its number
CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|(?:true|false)_computation)=%?([\w.\-]+)"
    r"|\b(?:branch_computations|called_computations)=\{([^}]*)\}"
)


class Buffer(NamedTuple):
    """An array that an instruction reads or writes.

    Attributes:
      shape: its dimensions.
      bytes: its size, the padding of its tiles included.
      main: whether it is in the chip's main memory, rather than in a smaller one that
        the compiler fills, as a TPU's vector memory.
    """

    shape: tuple[int, ...]
    bytes: int
    main: bool


class Line(NamedTuple):
    """An instruction.

    Attributes:
      name: its name, one of its computation's.
      opcode: what it does.
      buffers: the arrays of its result, those of a tuple one after the other.
      operands: names of instructions of the same computation.
      argument: what is in the parentheses; the number of a parameter or a constant.
      rest: its attributes.
      root: whether it is the computation's result.
    """

    name: str
    opcode: str
    buffers: tuple[Buffer, ...]
    operands: tuple[str, ...]
    argument: str
    rest: str
    root: bool

    def called(self, attribute: str) -> str:
        """The computation of an attribute such as `body`; "" without it."""
        match = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.rest)
        return match[1] if match else ""

    @property
    def all_called(self) -> tuple[str, ...]:
        """Every computation that it names."""
        names = (one or many for one, many in CALLED.findall(self.rest))
        return tuple(n.strip(" %") for each in names for n in each.split(","))


Computation = dict[str, Line]


class Module(NamedTuple):
    """A module's computations, by name, and the one that is run."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads a module.

    Args:
      text: of a compiled program, `compiled.as_text()`, or of one to be compiled,
        `lowered.as_text("hlo")`.

    Returns:
      A `Module`.
    """
    computations: dict[str, Computation] = {}
    current: Computation = {}
    entry = ""
    for text_line in text.splitlines():
        if not text_line.startswith(" "):
            if head := HEAD.match(text_line):
                current = computations.setdefault(head[2], {})
                entry = head[2] if head[1] or not entry else entry
        elif match := LINE.match(text_line):
            current[match["name"]] = _line(match)
    return Module(computations, entry)


def _line(match: re.Match) -> Line:
    return Line(
        name=match["name"],
        opcode=match["opcode"],
        buffers=tuple(_buffer(*each) for each in ARRAY.findall(match["shape"])),
        operands=tuple(NAME.findall(COMMENT.sub("", match["operands"]))),
        argument=match["operands"],
        rest=match["rest"],
        root=match["root"] is not None,
    )


def _buffer(dtype: str, dims: str, layout: str) -> Buffer:
    shape = tuple(int(n.lstrip("<=")) for n in dims.split(",") if n)
    order, _, placing = layout.partition(":")
    tile = re.match(r"T\(([\d,]+)\)", placing)
    sizes = list(shape)
    if tile and order:
        minor = [int(axis) for axis in order.split(",")]
        for axis, side in zip(minor, reversed(tile[1].split(","))):
            sizes[axis] = -(-sizes[axis] // int(side)) * int(side)
    bits = math.prod(sizes) * _bits(dtype)
    return Buffer(shape, -(-bits // 8), not re.search(r"S\([1-9]\)", placing))


def _bits(dtype: str) -> int:
    """Of one element; 0 of a token."""
    if dtype == "pred":
        return 8
    width = re.match(r"[a-z]+(\d+)", dtype)
    return int(width[1]) if width else 0
