"""Jaxprs: what their outputs depend on, and the parts of a scan.

Only the public interface of JAX is used, so that it works with every version.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, Literal, jaxpr_as_fun


def inputs_read(jaxpr: Jaxpr, wanted: list[bool] | None = None) -> list[bool]:
    """Which inputs of a jaxpr its outputs may depend on.

    Args:
      jaxpr: a traced function.
      wanted: which outputs; all by default.

    Returns:
      A bool for each input.

    >>> traced = jax.make_jaxpr(lambda x, y: (x * 2, y))(1.0, 2.0)
    >>> inputs_read(traced.jaxpr, [True, False])
    [True, False]
    """
    wanted = [True] * len(jaxpr.outvars) if wanted is None else wanted
    live = {v for v, want in zip(jaxpr.outvars, wanted) if want and _is_var(v)}
    for equation in reversed(jaxpr.eqns):
        outs = [v in live for v in equation.outvars]
        if any(outs):
            ins = zip(equation.invars, _read_by(equation, outs))
            live.update(v for v, read in ins if read and _is_var(v))
    return [v in live for v in jaxpr.invars]


def returns_its_inputs(jaxpr: Jaxpr) -> bool:
    """Whether a traced function returns its inputs as they are, in their order.

    >>> keep, turn = jax.jit(lambda x, y: (x, y)), jax.jit(lambda x, y: (y, x))
    >>> [returns_its_inputs(jax.make_jaxpr(f)(1, 2).jaxpr) for f in (keep, turn)]
    [True, False]
    """
    return [_origin(jaxpr, v) for v in jaxpr.outvars] == list(jaxpr.invars)


def _origin(jaxpr: Jaxpr, variable: Any) -> Any:
    """What a variable is a copy of, through calls that hand it on."""
    for equation in jaxpr.eqns:
        if variable not in equation.outvars or equation.primitive.name != "jit":
            continue
        (body,) = bodies_of(equation)
        inner = _origin(body, body.outvars[equation.outvars.index(variable)])
        if inner in body.invars:
            return _origin(jaxpr, equation.invars[body.invars.index(inner)])
    return variable


def _read_by(equation: Any, outs: list[bool]) -> list[bool]:
    """Which inputs of an equation those outputs depend on."""
    bodies, first = bodies_of(equation), int(equation.primitive.name == "cond")
    if not bodies:
        return [True] * len(equation.invars)
    while True:
        each = [inputs_read(body, outs) for body in bodies]
        ins = [True] * first + [any(read) for read in zip(*each)]
        if (again := _carried(equation, ins, outs)) == outs:
            return ins
        outs = again


def _carried(equation: Any, ins: list[bool], outs: list[bool]) -> list[bool]:
    """Which outputs of a scan's body are read, also by its next step."""
    if equation.primitive.name != "scan":
        return outs
    start, carry = scan_parts(equation)
    again = ins[start : start + carry] + [False] * (len(outs) - carry)
    return [a or b for a, b in zip(again, outs)]


def bodies_of(equation: Any) -> list[Jaxpr]:
    """The bodies of an equation, if their inputs and outputs are the equation's."""
    name = equation.primitive.name
    bodies = [
        value.jaxpr if isinstance(value, ClosedJaxpr) else value
        for value in jax.tree.leaves(equation.params)
        if isinstance(value, Jaxpr | ClosedJaxpr)
    ]
    ins, outs = len(equation.invars) - int(name == "cond"), len(equation.outvars)
    fits = all(len(x.invars) == ins and len(x.outvars) == outs for x in bodies)
    return bodies if fits and name != "while" else []


def scan_parts(equation: Any) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried.

    Arrays that are scanned over or stacked have one axis more outside the body.

    >>> def f(c, x, xs):
    ...     return jax.lax.scan(lambda x, y: (c * x + y, x), x, xs)
    >>> scan_parts(jax.make_jaxpr(f)(2.0, 1.0, jax.numpy.ones(3)).jaxpr.eqns[-1])
    (1, 1)
    """
    body = equation.params["jaxpr"]
    body = getattr(body, "jaxpr", body)

    def same(outside: list, inside: list) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(x.aval.ndim == y.aval.ndim for x, y in pairs)

    carried = same(equation.outvars, body.outvars)
    return same(equation.invars, body.invars) - carried, carried


def free_inputs(equation: Any) -> list[Any]:
    """The variables that an equation reads, each once."""
    return list(dict.fromkeys(filter(_is_var, equation.invars)))


def alone(equation: Any) -> Callable[..., list[Any]]:
    """An equation as a function of its `free_inputs`, by its own rules.

    >>> traced = jax.make_jaxpr(lambda x: 2.0 * x)(1.0)
    >>> print(*alone(traced.jaxpr.eqns[0])(3.0))
    6.0
    """
    about = DebugInfo("metajax", equation.primitive.name, None, None)
    free, out = free_inputs(equation), list(equation.outvars)
    jaxpr = Jaxpr((), free, out, [equation], debug_info=about)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, ()))


def _is_var(v: Any) -> bool:
    return not isinstance(v, Literal)
