"""Which rules of differentiation a traced function holds, found by looking at it."""

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
from jax.extend.core import (
    ClosedJaxpr,
    DebugInfo,
    Jaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    jaxpr_as_fun,
    jaxprs_in_params,
    primitives,
)

from metajax.errors import InputError
from metajax.ops import bilinear
from metajax.types import Array, PyTree

# Their derivative is whatever somebody wrote (a `custom_vjp`, what solves a linear
# system), differs between devices (collectives), or is none (reads of a reference).
_UNKNOWN = (
    "custom_jvp_call_p",
    "custom_vjp_call_p",
    "custom_lin_p",
    "linear_solve_p",
    "psum_p",
    "pmax_p",
    "pmin_p",
    "ppermute_p",
    "all_gather_p",
    "all_to_all_p",
    "ragged_all_to_all_p",
    "get_p",
    "swap_p",
)
# A `custom_jvp` is trusted that differentiates as the function of JAX of its name does.
_TRUSTED = {"relu": jax.nn.relu, "relu6": jax.nn.relu6, "logaddexp": jnp.logaddexp}


def _primitives_of(*modules: ModuleType) -> set[Primitive]:
    values = [value for module in modules for value in vars(module).values()]
    return {value for value in values if isinstance(value, Primitive)}


_KNOWN = _primitives_of(primitives, jax.lax) | set(bilinear.PRIMITIVES)
_KNOWN -= {getattr(primitives, name, None) for name in _UNKNOWN}


def check_known_rules(
    name: str, instead: str, loss: Callable[..., Array], *args: PyTree
) -> None:
    """Checks that second derivatives of a loss are symmetric, for what rests on it.

    Args:
      name: of what does.
      instead: what takes any loss.
      loss: of `args`.
      *args: arguments of the loss.

    Raises:
      InputError: if a derivative in it is not known.
    """
    if rule := unknown_rule(jax.make_jaxpr(loss)(*args).jaxpr):
        raise refusal(name, instead, rule)


def refusal(name: str, instead: str, rule: str) -> InputError:
    """The error of what needs a loss without such a rule."""
    return InputError(
        f"{name} needs a loss whose derivatives are all JAX's own, got a {rule}; "
        f"take {instead}"
    )


def unknown_rule(jaxpr: Jaxpr) -> str | None:
    """The first operation whose derivative may not be the derivative of its value.

    It is looked for to any depth: in the bodies of loops, branches and calls.

    Args:
      jaxpr: a traced function.

    Returns:
      What it is called, or None if all derivatives are those of JAX's own operations
      and of metajax's.

    >>> def loss(x):
    ...     return jnp.sum(jax.nn.relu(x) ** 2)
    >>> unknown_rule(jax.make_jaxpr(loss)(1.0).jaxpr)
    >>> held = jax.custom_vjp(jnp.floor)
    >>> held.defvjp(lambda x: (jnp.floor(x), None), lambda _, g: (g,))
    >>> unknown_rule(jax.make_jaxpr(lambda x: loss(held(x)))(1.0).jaxpr)
    'custom_vjp_call of floor'
    """
    return next(_unknown_rules(jaxpr), None)


def _unknown_rules(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        if not any(map(_is_smooth, equation.outvars)):
            continue
        if equation.primitive in _KNOWN:
            for inner in jaxprs_in_params(equation.params):
                yield from _unknown_rules(inner)
        elif not _is_trusted(equation):
            yield _described(equation)


def _is_smooth(variable) -> bool:
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _is_trusted(equation: JaxprEqn) -> bool:
    """Whether it is a `custom_jvp` of JAX, by its name and by its derivative."""
    trusted = _TRUSTED.get(_name(equation))
    if trusted is None or equation.primitive is not primitives.custom_jvp_call_p:
        return False
    free = [x for x in equation.invars if not isinstance(x, Literal)]
    about = DebugInfo("metajax", "rule", None, None)
    alone = Jaxpr((), free, equation.outvars, [equation], debug_info=about)

    def as_jax_has_it(*values: Array) -> list[Array]:
        now = iter(values)
        inputs = equation.invars
        return [
            trusted(*(x.val if isinstance(x, Literal) else next(now) for x in inputs))
        ]

    shapes = [
        jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype, weak_type=x.aval.weak_type)
        for x in free
    ]
    ours, theirs = (
        str(jax.make_jaxpr(partial(jax.jvp, function))(shapes, shapes))
        for function in (jaxpr_as_fun(ClosedJaxpr(alone, ())), as_jax_has_it)
    )
    return ours == theirs


def _name(equation: JaxprEqn) -> str:
    """Of the function whose derivative somebody wrote; empty if there is none."""
    inner = getattr(equation.params.get("call_jaxpr"), "jaxpr", None)
    return getattr(getattr(inner, "debug_info", None), "func_name", None) or ""


def _described(equation: JaxprEqn) -> str:
    name = _name(equation)
    return f"{equation.primitive.name} of {name}" if name else equation.primitive.name
