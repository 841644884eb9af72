"""Derivatives that stay finite where a primitive's own is infinite.

What an optimizer computes is full of square roots and quotients of what may be exactly
zero: the moments of a dead unit, the norm of a gradient that vanishes. Their values are
right; their derivatives are infinite, and 0 times infinity is NaN, even in the branch
of a `jnp.where` that is not selected.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jax.extend.core import primitives as p

from metajax._jaxprs import scan_parts
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
        _places(eqn, set()) or any(map(_is_singular, _bodies(eqn)))
        for eqn in closed.jaxpr.eqns
    )


def _places(eqn: Any, wild: set[Any]) -> list[int]:
    """The operands in which an equation may have an infinite derivative."""
    if not _is_inexact(eqn.outvars[0]):
        return []
    free = [i for i, x in enumerate(eqn.invars) if not isinstance(x, Literal)]
    if eqn.primitive in NONLINEAR and any(eqn.invars[i] in wild for i in free):
        return free if len(free) == len(eqn.invars) else []
    place = SINGULAR.get(eqn.primitive)
    polynomial = eqn.primitive is p.integer_pow_p and eqn.params["y"] >= 0
    return [place] if place in free and not polynomial else []


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
    wild = set()  # what may be infinite or NaN where it is not selected

    def read(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for eqn in jaxpr.eqns:
        operands = list(map(read, eqn.invars))
        places, inside = _places(eqn, wild), any(map(_is_singular, _bodies(eqn)))
        free = [x for x in eqn.invars if not isinstance(x, Literal)]
        if places or inside or not wild.isdisjoint(free):
            wild.update(eqn.outvars)
        if places:
            results = [_held(eqn, places, operands)]
        elif inside:
            call = CALLS[eqn.primitive](eqn, list(map(finite, _bodies(eqn))))
            results = call(*operands)
        else:
            once, outs = list(dict.fromkeys(free)), list(eqn.outvars)
            alone = jaxpr.replace(constvars=[], invars=once, outvars=outs, eqns=[eqn])
            results = jaxpr_as_fun(ClosedJaxpr(alone, []))(*map(read, once))
        values.update(zip(eqn.outvars, results))
    return [read(x) for x in jaxpr.outvars]


def _held(eqn: Any, places: list[int], operands: list[Any]) -> Array:
    """A primitive, held constant where its derivative is infinite."""

    def bind(values: list[Any]) -> Array:
        return eqn.primitive.bind(*values, **eqn.params)

    fixed = [jax.lax.stop_gradient(jnp.asarray(x)) for x in operands]

    def slope(i: int) -> Array:
        along = lambda x: bind([*fixed[:i], x, *fixed[i + 1 :]])  # noqa: E731
        return jax.jvp(along, (fixed[i],), (jnp.ones_like(fixed[i]),))[1]

    infinite = reduce(jnp.logical_or, [~jnp.isfinite(slope(i)) for i in places])
    if eqn.primitive is p.pow_p:
        # Only a later derivative than the first may be infinite, as that of x^1.5 is.
        infinite |= (fixed[0] == 0) & ~_is_natural(fixed[1])
    # Each primitive is smooth at 0.5, in all its operands.
    safe = [
        jnp.where(infinite, 0.5, x) if i in places else x
        for i, x in enumerate(operands)
    ]
    return jnp.where(infinite, bind(fixed), bind(safe))


def _is_natural(x: Array) -> Array:
    return (jnp.real(x) >= 0) & (jnp.round(jnp.real(x)) == x)


def _jit(eqn: Any, bodies: list[Evaluate]) -> Evaluate:
    return bodies[0]


def _remat(eqn: Any, bodies: list[Evaluate]) -> Evaluate:
    policy, cse = eqn.params["policy"], eqn.params["prevent_cse"]
    return jax.checkpoint(bodies[0], policy=policy, prevent_cse=cse)


def _cond(eqn: Any, bodies: list[Evaluate]) -> Evaluate:
    return lambda index, *operands: jax.lax.switch(index, bodies, *operands)


def _scan(eqn: Any, bodies: list[Evaluate]) -> Evaluate:
    split, carried = scan_parts(eqn)
    end = split + carried
    how = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}

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
# These have one where an operand is infinite or NaN itself.
NONLINEAR = {p.mul_p, p.integer_pow_p, p.square_p, p.abs_p, p.exp_p, p.expm1_p}
NONLINEAR |= {p.tanh_p, p.logistic_p}
CALLS = {p.jit_p: _jit, p.remat_p: _remat, p.cond_p: _cond, p.scan_p: _scan}
