"""Detects custom rules of differentiation in a traced function."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import (
    Jaxpr,
    JaxprEqn,
    Literal,
    jaxprs_in_params,
    primitives,
)

from metajax._autodiff.jaxprs import alone, free_inputs
from metajax.errors import InputError
from metajax.ops import bilinear, pooling
from metajax.types import Array, PyTree

# Operations whose second derivatives are symmetric. Those of others may not be: custom
# rules (a `custom_vjp`, a linear solve), operations that read half of a matrix but are
# differentiated as if they read all (`cholesky`, `eigh`), collectives, references.
_ORDINARY = """
abs acos acosh add add_jaxvals asin asinh atan atan2 atanh bitcast_convert_type
broadcast_in_dim cbrt ceil clamp closed_call complex concatenate cond conj
conv_general_dilated convert_element_type copy cos cosh cumlogsumexp cummax cummin
cumprod cumsum device_put digamma div dot_general dynamic_slice dynamic_update_slice erf
erf_inv erfc exp exp2 expm1 fft floor gather imag integer_pow iota jit lgamma log log1p
logistic max min mul name neg one_minus_square optimization_barrier pad pow real
reduce_max reduce_min reduce_precision reduce_prod reduce_sum reduce_window_max
reduce_window_min reduce_window_sum rem remat reshape rev round rsqrt scan scatter
scatter_add scatter_max scatter_min scatter_mul scatter_sub select_and_gather_add
select_and_scatter_add select_n sharding_constraint sign sin sinh slice sort split sqrt
square squeeze stack stop_gradient sub tan tanh tile top_k transpose unstack while
""".split()
_KNOWN = {
    getattr(module, f"{name}_p")
    for name in _ORDINARY
    for module in (primitives, jax.lax)
    if hasattr(module, f"{name}_p")
} | {*bilinear.PRIMITIVES, *pooling.PRIMITIVES}
# A `custom_jvp` is trusted if its derivative is that of JAX's function of its name.
_TRUSTED = {"relu": jax.nn.relu, "relu6": jax.nn.relu6, "logaddexp": jnp.logaddexp}


def check_known_rules(
    name: str, instead: str, loss: Callable[..., Array], *args: PyTree
) -> None:
    """Checks that the second derivatives of a loss are symmetric.

    Args:
      name: the function that needs such a loss.
      instead: an alternative that takes any loss.
      loss: `loss(*args) -> scalar`.
      *args: the arguments of the loss.

    Raises:
      InputError: if a derivative in the loss is not JAX's own.
    """
    if rule := unknown_rule(jax.make_jaxpr(loss)(*args).jaxpr):
        raise refusal(name, instead, rule)


def refusal(name: str, instead: str, rule: str) -> InputError:
    """The error of a function `name` that cannot take a loss with such a rule."""
    return InputError(
        f"{name} needs a loss whose derivatives are all JAX's own, got a {rule}; "
        f"use {instead}"
    )


def unknown_rule(jaxpr: Jaxpr) -> str | None:
    """The first operation whose derivative may not be the derivative of its value.

    The bodies of loops, branches and calls are searched too.

    Args:
      jaxpr: a traced function.

    Returns:
      Its name, or None if all derivatives are those of JAX's and metajax's operations.

    >>> def loss(x):
    ...     return jnp.sum(jax.nn.relu(x) ** 2)
    >>> unknown_rule(jax.make_jaxpr(loss)(1.0).jaxpr)
    >>> straight = jax.custom_vjp(jnp.floor)
    >>> straight.defvjp(lambda x: (jnp.floor(x), None), lambda _, g: (g,))
    >>> unknown_rule(jax.make_jaxpr(lambda x: loss(straight(x)))(1.0).jaxpr)
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
    """Whether it is a `custom_jvp` of JAX, judged by its name and its derivative."""
    trusted = _TRUSTED.get(_name(equation))
    if trusted is None or equation.primitive is not primitives.custom_jvp_call_p:
        return False
    free = free_inputs(equation)

    def jax_version(*values: Array) -> list[Array]:
        known = dict(zip(free, values))
        every = equation.invars
        inputs = [x.val if isinstance(x, Literal) else known[x] for x in every]
        return [trusted(*inputs)]

    kinds: list[Any] = [x.aval for x in free]
    shapes = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=x.weak_type) for x in kinds
    ]
    ours, theirs = (
        str(jax.make_jaxpr(partial(jax.jvp, function))(shapes, shapes))
        for function in (alone(equation), jax_version)
    )
    return ours == theirs


def _name(equation: JaxprEqn) -> str:
    """The name of the function with a custom derivative, or "" if there is none."""
    inner = getattr(equation.params.get("call_jaxpr"), "jaxpr", None)
    return getattr(getattr(inner, "debug_info", None), "func_name", None) or ""


def _described(equation: JaxprEqn) -> str:
    name = _name(equation)
    return f"{equation.primitive.name} of {name}" if name else equation.primitive.name
