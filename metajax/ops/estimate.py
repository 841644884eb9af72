"""What a function will cost, found by tracing it: nothing is compiled or run."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from metajax.ops.bilinear import PRIMITIVES, form_of
from metajax.ops.forms import Backend
from metajax.types import PyTree

# Operations that rarely make an array of their own.
VIEWS = ("reshape", "broadcast_in_dim", "squeeze", "name")

# Operations of one number at a time, which the compiler fuses.
EACH = {
    *("add", "sub", "mul", "div", "neg", "max", "min", "exp", "log", "log1p", "expm1"),
    *("tanh", "logistic", "sqrt", "rsqrt", "integer_pow", "pow", "square", "sign"),
    *("abs", "add_any", "select_n", "convert_element_type", "eq", "ne", "lt", "le"),
    *("gt", "ge", "and", "or", "not", "is_finite", "copy", "erf", "sin", "cos"),
}
SUMS = {"reduce_sum", "reduce_max", "reduce_min", "argmax", *VIEWS}


def allocated_bytes(function: Callable, *args: PyTree) -> int:
    """The bytes of every array that a function computes.

    The body of a loop counts once, and what the loop stacks counts whole. It is an
    estimate for choosing chunks: the compiler keeps fewer arrays alive at a time, and
    what it makes inside an operation is not seen.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.

    Returns:
      A number of bytes.

    >>> import numpy as np
    >>> allocated_bytes(lambda x: jax.numpy.sin(x) + 1.0, np.zeros(10, np.float32))
    80
    """
    return sum(_bytes(each) for each, _ in equations(function, *args))


def written_bytes(function: Callable, *args: PyTree) -> int:
    """The same, with the body of a loop counted as often as it runs.

    It goes as the time does: on a CPU, 0.07 to 0.3 ns a byte, from a sinusoid's
    perceptron to a wide Conv4.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.

    Returns:
      A number of bytes, those of all devices together.

    >>> written_bytes(lambda x: jax.lax.fori_loop(0, 9, lambda i, x: x + x, x), 1.0)
    80
    """
    return sum(times * _bytes(each) for each, times in equations(function, *args))


def whole_bytes(array: Any) -> int:
    """The bytes of an array, abstract or not, without padding."""
    return math.prod(array.shape) * array.dtype.itemsize


def tiled_bytes(array: Any) -> int:
    """The same in a TPU's memory, in tiles of 1, 2, 4 or 8 rows of 128 numbers.

    The compiler chooses the two axes that tiles lie along; so does this, for the least
    padding.

    >>> import numpy as np
    >>> tiled_bytes(np.zeros((100, 3, 7), np.float32)) == 4 * 3 * 8 * 128
    True
    """
    sides = [side for side in array.shape if side > 1]
    sides += [1] * (2 - len(sides))
    padded = (
        _rounded(rows, min(8, 2 ** (rows - 1).bit_length()))
        / rows
        * _rounded(columns, 128)
        / columns
        for rows, columns in itertools.permutations(sides, 2)
    )
    return round(whole_bytes(array) * min(padded))


class _Memory(NamedTuple):
    """How arrays lie in memory, and which backend's forms metajax's operations take."""

    size: Callable[[Any], int]
    backend: Backend | None

    def of(self, var: Any) -> int:
        """The bytes of a variable of a jaxpr."""
        return _size(var, self.size)


def live_bytes(
    function: Callable,
    *args: PyTree,
    size: Callable[[Any], int] = whole_bytes,
    backend: Backend | None = None,
) -> int:
    """The most bytes of what a function computes that are needed at one time.

    Each array counts from the operation that computes it to the last that reads it;
    what the compiler would fuse into its only reader is none. It is an estimate: 0.85
    to 1.3 of what XLA takes beside the arguments for a meta-gradient of an MLP or of
    Conv4 on a GPU. What is made inside an operation is not seen, but for metajax's own
    if `backend` is given.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.
      size: the bytes of an array; see `tiled_bytes`.
      backend: the one whose forms (`metajax.ops.forms`) metajax's operations take.

    Returns:
      A number of bytes.

    >>> import jax.numpy as jnp, numpy as np
    >>> live_bytes(lambda x: jnp.sin(x) + 1.0, np.zeros(10, np.float32))
    40
    >>> twice = lambda x: jnp.cumsum(jnp.cumsum(jnp.cumsum(x)))
    >>> live_bytes(twice, np.zeros(10, np.float32))
    80
    """
    return _peak(jax.make_jaxpr(function)(*args).jaxpr, _Memory(size, backend))


def _peak(jaxpr: Any, memory: _Memory) -> int:
    """Of what a jaxpr computes, its results included."""
    fused = _fused(jaxpr)
    last = _last_reads(jaxpr, fused)
    dying = defaultdict(list)
    for var, index in last.items():
        dying[index].append(var)
    held: dict[Any, int] = {}
    now = most = 0
    for index, equation in enumerate(jaxpr.eqns):
        for var in equation.outvars:
            held[var] = 0 if fused[index] else memory.of(var)
            now += held[var]
        most = max(most, now + _peak_inside(equation, memory))
        unread = [var for var in equation.outvars if var not in last]
        now -= sum(held.pop(var, 0) for var in (*unread, *dying[index]))
    return most


def _fused(jaxpr: Any) -> list[bool]:
    """Whether each equation's result is never an array: the one that reads it makes it.

    So the compiler fuses an operation of one number at a time into another, or into a
    sum, that alone reads it.
    """
    readers = defaultdict(list)
    for equation in jaxpr.eqns:
        for var in filter(_is_variable, equation.invars):
            readers[var].append(equation.primitive.name)
    for var in filter(_is_variable, jaxpr.outvars):
        readers[var].append("")

    def fused(equation: Any) -> bool:
        if equation.primitive.name not in EACH:
            return _is_view(equation)
        names = readers[equation.outvars[0]]
        return len(names) == 1 and names[0] in EACH | SUMS

    return [fused(equation) for equation in jaxpr.eqns]


def _last_reads(jaxpr: Any, fused: list[bool]) -> dict[Any, int]:
    """The last equation that reads each variable, or a view of it."""
    last = {var: len(jaxpr.eqns) for var in jaxpr.outvars if _is_variable(var)}
    for index, equation in reversed(list(enumerate(jaxpr.eqns))):
        until = last.get(equation.outvars[0], index) if fused[index] else index
        for var in filter(_is_variable, equation.invars):
            last[var] = max(last.get(var, index), until)
    return last


def _peak_inside(equation: Any, memory: _Memory) -> int:
    """Of what an equation holds, beside its results, which the whole one counts."""
    stacked = equation.primitive.name == "scan"  # its body's are parts of them

    def beside(jaxpr: Any) -> int:
        results = 0 if stacked else sum(map(memory.of, jaxpr.outvars))
        return _peak(jaxpr, memory) - results

    inside = _held_by(equation)
    if memory.backend is not None and equation.primitive in PRIMITIVES:
        inside.append(form_of(equation, memory.backend))
    return max([0, *map(beside, inside)])


def _held_by(equation: Any) -> list[Any]:
    """The jaxprs of an equation."""
    leaves = jax.tree.leaves(equation.params)
    return [
        getattr(x, "jaxpr", x) for x in leaves if isinstance(x, Jaxpr | ClosedJaxpr)
    ]


def _is_variable(var: Any) -> bool:
    return not isinstance(var, Literal)


def _is_view(equation: Any) -> bool:
    return equation.primitive.name in VIEWS


def _size(var: Any, size: Callable[[Any], int]) -> int:
    return size(var.aval) if hasattr(var.aval, "dtype") else 0


def _rounded(side: int, tile: int) -> int:
    return -(-side // tile) * tile


def equations(function: Callable, *args: PyTree) -> Iterator[tuple[Any, int]]:
    """The equations of a function and of all that it calls, and how often each runs.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.
    """
    return _within(jax.make_jaxpr(function)(*args).jaxpr, 1)


def _within(jaxpr: Any, times: int) -> Iterator[tuple[Any, int]]:
    for equation in jaxpr.eqns:
        yield equation, times
        inside = times * _repeats(equation)
        for held in _held_by(equation):
            yield from _within(held, inside)


def _repeats(equation: Any) -> int:
    """How often what an equation holds runs; a `while` counts once."""
    if equation.primitive.name == "shard_map":
        return equation.params["mesh"].size
    return equation.params.get("length", 1) if equation.primitive.name == "scan" else 1


def _bytes(equation: Any) -> int:
    if _is_view(equation):
        return 0
    return sum(_size(var, whole_bytes) for var in equation.outvars)
