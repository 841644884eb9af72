"""Derivatives that stay finite where a primitive's own is infinite.

What an optimizer computes is full of square roots and quotients of what may be exactly
zero: the moments of a dead unit, the norm of a gradient that vanishes. Their values are
right; their derivatives are infinite, and 0 times infinity is NaN, even in the branch
of a `jnp.where` that is not selected.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jax.extend.core import primitives as p

from metajax.types import Array

Evaluate = Callable[..., list[Array]]
OPAQUE = "metajax_loss"


def opaque(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function that `finite` leaves as it is, such as the loss."""

    def metajax_loss(*args: Any) -> Any:
        return fun(*args)

    return jax.jit(metajax_loss)


def finite(closed: ClosedJaxpr) -> Evaluate:
    """The function of a jaxpr, with derivatives that take 0 times infinity for 0.

      f(x) = √x, 1/x, log x, ...:    f'(x) = 0 wherever it would be infinite or NaN

    Its values are the same, and so are all other derivatives, of any order and in
    either mode. A jaxpr without such a primitive is evaluated as it is, and so are the
    functions that have a rule of their own (`jax.custom_jvp`, `jax.custom_vjp`).

    Args:
      closed: what `jax.make_jaxpr` returns.

    Returns:
      A function of the flat arguments of `closed` that returns its flat results.
    """
    return partial(_evaluate, closed) if _is_singular(closed) else jaxpr_as_fun(closed)


def obstacle(closed: ClosedJaxpr) -> str | None:
    """Why a function has no derivative that `finite` can give, or None.

    Args:
      closed: what `jax.make_jaxpr` returns.

    Returns:
      What is in the way, and the mend.
    """
    for eqn in closed.jaxpr.eqns:
        smooth = any(_is_inexact(x) for x in eqn.outvars)
        if eqn.primitive in OBSTACLES and smooth:
            return OBSTACLES[eqn.primitive]
        if why := next(filter(None, map(obstacle, _bodies(eqn))), None):
            return why
    return None


def _is_inexact(x: Any) -> bool:
    return jnp.issubdtype(x.aval.dtype, jnp.inexact)


def _is_singular(closed: ClosedJaxpr) -> bool:
    return any(
        _is_primitive(eqn) or any(map(_is_singular, _bodies(eqn)))
        for eqn in closed.jaxpr.eqns
    )


def _is_primitive(eqn: Any) -> bool:
    """Whether an equation may have an infinite derivative itself."""
    if eqn.primitive not in SINGULAR or isinstance(eqn.invars[_place(eqn)], Literal):
        return False
    if eqn.primitive is p.integer_pow_p and eqn.params["y"] >= 0:
        return False
    return _is_inexact(eqn.outvars[0])


def _place(eqn: Any) -> int:
    """Which operand it may be infinite in."""
    return SINGULAR[eqn.primitive]


def _bodies(eqn: Any) -> list[ClosedJaxpr]:
    """The functions of an equation that are evaluated equation by equation too."""
    if eqn.primitive not in CALLS or eqn.params.get("name") == OPAQUE:
        return []
    if eqn.primitive is p.cond_p:
        return list(eqn.params["branches"])
    body = eqn.params["jaxpr"]
    return [body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, [])]


def _evaluate(closed: ClosedJaxpr, *args: Array) -> list[Array]:
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args]))

    def read(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for eqn in jaxpr.eqns:
        if _is_primitive(eqn):
            results = [_held(eqn, *map(read, eqn.invars))]
        elif any(map(_is_singular, _bodies(eqn))):
            call = CALLS[eqn.primitive](eqn.params, list(map(finite, _bodies(eqn))))
            results = call(*map(read, eqn.invars))
        else:
            free = [x for x in eqn.invars if not isinstance(x, Literal)]
            alone = jaxpr.replace(
                constvars=[], invars=free, outvars=list(eqn.outvars), eqns=[eqn]
            )
            results = jaxpr_as_fun(ClosedJaxpr(alone, []))(*map(read, free))
        values.update(zip(eqn.outvars, results))
    return [read(x) for x in jaxpr.outvars]


def _held(eqn: Any, *operands: Any) -> Array:
    """A primitive, held constant where its derivative is infinite."""
    place, fixed = _place(eqn), [jax.lax.stop_gradient(x) for x in operands]

    def along(x: Array, others: Sequence[Any]) -> Array:
        values = [*others[:place], x, *others[place + 1 :]]
        return eqn.primitive.bind(*values, **eqn.params)

    at = jnp.asarray(fixed[place])
    value, slope = jax.jvp(lambda x: along(x, fixed), (at,), (jnp.ones_like(at),))
    infinite = ~jnp.isfinite(slope)
    if eqn.primitive is p.pow_p:
        # A later derivative than the first may be infinite: of x^1.5, the second is.
        infinite |= (at == 0) & ~_is_natural(fixed[1])
    # Each of the primitives is smooth at 0.5.
    elsewhere = along(jnp.where(infinite, 0.5, operands[place]), operands)
    return jnp.where(infinite, value, elsewhere)


def _is_natural(x: Array) -> Array:
    return (jnp.real(x) >= 0) & (jnp.round(jnp.real(x)) == x)


def _jit(params: dict[str, Any], bodies: list[Evaluate]) -> Evaluate:
    return bodies[0]


def _remat(params: dict[str, Any], bodies: list[Evaluate]) -> Evaluate:
    policy, cse = params["policy"], params["prevent_cse"]
    return jax.checkpoint(bodies[0], policy=policy, prevent_cse=cse)


def _cond(params: dict[str, Any], bodies: list[Evaluate]) -> Evaluate:
    return lambda index, *operands: jax.lax.switch(index, bodies, *operands)


def _scan(params: dict[str, Any], bodies: list[Evaluate]) -> Evaluate:
    split, end = params["num_consts"], params["num_consts"] + params["num_carry"]
    how = {name: params[name] for name in ("length", "reverse", "unroll")}

    def run(*operands: Array) -> list[Array]:
        def step(carry: list[Array], x: list[Array]):
            results = bodies[0](*operands[:split], *carry, *x)
            return results[: end - split], results[end - split :]

        start, xs = list(operands[split:end]), list(operands[end:])
        carry, ys = jax.lax.scan(step, start, xs, **how)
        return [*carry, *ys]

    return run


SEARCH = (
    "it runs a loop of unknown length, which has no derivative in reverse; leave out "
    "its line search (optax.lbfgs(rate, linesearch=None)), or take another optimizer"
)
DECOMPOSITION = (
    "it decomposes a matrix ({}), whose derivative is infinite where singular values "
    "vanish or coincide, as those of a gradient do; take another optimizer"
)
OBSTACLES = {p.while_p: SEARCH} | {
    primitive: DECOMPOSITION.format(primitive.name)
    for primitive in (p.svd_p, p.eigh_p, p.eig_p, p.schur_p, p.qr_p)
}
# The operand in which each may have an infinite derivative.
SINGULAR = {
    **dict.fromkeys((p.sqrt_p, p.rsqrt_p, p.cbrt_p, p.log_p, p.log1p_p), 0),
    **dict.fromkeys((p.asin_p, p.acos_p, p.atanh_p, p.erf_inv_p), 0),
    **dict.fromkeys((p.integer_pow_p, p.pow_p), 0),
    p.div_p: 1,
}
CALLS = {p.jit_p: _jit, p.remat_p: _remat, p.cond_p: _cond, p.scan_p: _scan}
