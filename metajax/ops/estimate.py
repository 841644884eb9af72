"""Estimates of what a function will cost, by tracing it without compiling it."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal, jaxprs_in_params

from metajax.ops.bilinear import PRIMITIVES, form_of
from metajax.ops.forms import Backend
from metajax.types import PyTree

# Operations that rarely allocate an array.
VIEWS = ("reshape", "broadcast_in_dim", "squeeze", "name")

# Elementwise operations, which the compiler fuses.
EACH = {
    *("add", "sub", "mul", "div", "neg", "max", "min", "exp", "log", "log1p", "expm1"),
    *("tanh", "logistic", "sqrt", "rsqrt", "integer_pow", "pow", "square", "sign"),
    *("abs", "add_any", "select_n", "convert_element_type", "eq", "ne", "lt", "le"),
    *("gt", "ge", "and", "or", "not", "is_finite", "copy", "erf", "sin", "cos"),
}
SUMS = {"reduce_sum", "reduce_max", "reduce_min", "argmax", *VIEWS}


def allocated_bytes(function: Callable, *args: PyTree) -> int:
    """The bytes of every array that a function computes.

    The body of a loop counts once, and the arrays that the loop stacks count fully. It
    is an estimate for choosing chunks: the compiler keeps fewer arrays alive at a time,
    and arrays inside an operation do not count.

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
    """`allocated_bytes` with the body of a loop counted as often as it runs.

    It is roughly proportional to time: a CPU takes 0.07 to 0.3 ns per byte, from a
    sinusoid's perceptron to a wide Conv4.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.

    Returns:
      A number of bytes, summed over devices.

    >>> written_bytes(lambda x: jax.lax.fori_loop(0, 9, lambda i, x: x + x, x), 1.0)
    80
    """
    return sum(times * _bytes(each) for each, times in equations(function, *args))


def whole_bytes(array: Any) -> int:
    """The bytes of an array, abstract or not, without padding."""
    return math.prod(array.shape) * array.dtype.itemsize


def tiled_bytes(array: Any) -> int:
    """The bytes of an array in a TPU's memory, padded to tiles of 1 to 8 rows of 128.

    The tiles lie along the two axes that need the least padding, as the compiler
    chooses them.

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
    """The size of arrays, and the backend whose forms metajax's operations take."""

    size: Callable[[Any], int]
    backend: Backend | None

    def size_of(self, var: Any) -> int:
        """The bytes of a variable of a jaxpr."""
        return _size(var, self.size)


def live_bytes(
    function: Callable,
    *args: PyTree,
    size: Callable[[Any], int] = whole_bytes,
    backend: Backend | None = None,
) -> int:
    """The peak bytes of the arrays that a function computes.

    An array counts from the operation that computes it to the last that reads it,
    unless the compiler would fuse it into its only reader. The estimate is 0.85 to 1.3
    of what XLA allocates beside the arguments, for a meta-gradient of an MLP or Conv4
    on a GPU. Arrays inside an operation count only for metajax's own, if `backend` is
    given.

    Args:
      function: a function of arrays.
      *args: its arguments, arrays or abstract ones.
      size: the bytes of an array; see `tiled_bytes`.
      backend: the backend whose forms (`metajax.ops.forms`) metajax's operations take.

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
    """The peak bytes of the arrays that a jaxpr computes, with its results."""
    fused = _fused(jaxpr)
    last = _last_reads(jaxpr, fused)
    dying = defaultdict(list)
    for var, index in last.items():
        dying[index].append(var)
    sizes: dict[Any, int] = {}
    now = most = 0
    for index, equation in enumerate(jaxpr.eqns):
        for var in equation.outvars:
            sizes[var] = 0 if fused[index] else memory.size_of(var)
            now += sizes[var]
        most = max(most, now + _peak_inside(equation, memory))
        unread = [var for var in equation.outvars if var not in last]
        now -= sum(sizes.pop(var, 0) for var in (*unread, *dying[index]))
    return most


def _fused(jaxpr: Any) -> list[bool]:
    """Which equations are fused into their reader, so that no array is allocated.

    The compiler fuses an elementwise operation if its only reader is elementwise or a
    reduction.
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
    """The peak bytes inside an equation, without its results."""
    # The results of a scan's body are parts of the scan's, so they do not count twice.
    stacked = equation.primitive.name == "scan"

    def peak(jaxpr: Any) -> int:
        results = 0 if stacked else sum(map(memory.size_of, jaxpr.outvars))
        return _peak(jaxpr, memory) - results

    inside = [*jaxprs_in_params(equation.params)]
    if memory.backend is not None and equation.primitive in PRIMITIVES:
        inside.append(form_of(equation, memory.backend))
    return max([0, *map(peak, inside)])


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

    Returns:
      Pairs of an equation and a number.
    """
    return _within(jax.make_jaxpr(function)(*args).jaxpr, 1)


def _within(jaxpr: Any, times: int) -> Iterator[tuple[Any, int]]:
    for equation in jaxpr.eqns:
        yield equation, times
        inside = times * _repeats(equation)
        for body in jaxprs_in_params(equation.params):
            yield from _within(body, inside)


def _repeats(equation: Any) -> int:
    """How often the bodies of an equation run; those of a `while` count once."""
    if equation.primitive.name == "shard_map":
        return equation.params["mesh"].size
    return equation.params.get("length", 1) if equation.primitive.name == "scan" else 1


def _bytes(equation: Any) -> int:
    if _is_view(equation):
        return 0
    return sum(_size(var, whole_bytes) for var in equation.outvars)
