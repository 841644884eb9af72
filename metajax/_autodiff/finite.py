"""Derivatives that stay finite where a primitive's own is infinite.

Optimizers take square roots and quotients of numbers that may be exactly zero, such as
the moments of a dead unit or the norm of a gradient. The values are right, but the
derivatives are infinite, and 0 times infinity is NaN, even in the branch of a
`jnp.where` that is not selected.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jax.extend.core import primitives as p

from metajax._autodiff.jaxprs import alone, free_inputs, scan_parts
from metajax.types import Array

Evaluate = Callable[..., list[Array]]
OPAQUE = "metajax_loss"


def opaque(fun: Callable[..., Any]) -> Callable[..., Any]:
    """A function that `finite` leaves as it is, such as the loss."""

    def metajax_loss(*args: Any) -> Any:
        return fun(*args)

    return jax.jit(metajax_loss)


def finite(closed: ClosedJaxpr, wild: bool = False) -> Evaluate:
    """The function of a jaxpr, with derivatives of 0 at the poles of its primitives.

      f(x) = √x, 1/x, log x, ...:    f'(0) = 0

    Its values are the same, and so are all other derivatives, of any order and in
    either mode, except that they overflow later than JAX's. Functions with their own
    rule (`jax.custom_jvp`, `jax.custom_vjp`) are evaluated unchanged.

    Args:
      closed: the result of `jax.make_jaxpr`.
      wild: whether its arguments may be infinite or NaN where they are not selected.

    Returns:
      A function of the flat arguments of `closed` that returns its flat results.
    """
    if wild or _is_singular(closed):
        return partial(_evaluate, closed, wild)
    return jaxpr_as_fun(closed)


def obstacle(closed: ClosedJaxpr) -> str | None:
    """Why `finite` cannot differentiate a function.

    Args:
      closed: the result of `jax.make_jaxpr`.

    Returns:
      The reason and the mend, or None if it can.
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
        _has_pole(eqn, set()) or any(map(_is_singular, _bodies(eqn)))
        for eqn in closed.jaxpr.eqns
    )


def _has_pole(eqn: Any, wild: set[Any]) -> bool:
    """Whether the derivative of an equation may be infinite or NaN somewhere."""
    if not _is_inexact(eqn.outvars[0]):
        return False
    free = [not isinstance(x, Literal) for x in eqn.invars]
    if eqn.primitive in NONLINEAR and any(
        x in wild for x, f in zip(eqn.invars, free) if f
    ):
        return all(free)
    if eqn.primitive is p.integer_pow_p and eqn.params["y"] >= 0:
        return False
    return eqn.primitive in POLES and free[POLES[eqn.primitive][0]]


def _bodies(eqn: Any) -> list[ClosedJaxpr]:
    """The bodies of an equation that are evaluated equation by equation too."""
    if eqn.primitive not in CALLS or eqn.params.get("name") == OPAQUE:
        return []
    if eqn.primitive is p.cond_p:
        return list(eqn.params["branches"])
    body = eqn.params["jaxpr"]
    return [body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, [])]


def _evaluate(closed: ClosedJaxpr, all_wild: bool, *args: Array) -> list[Array]:
    jaxpr = closed.jaxpr
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args]))
    # These variables may be infinite or NaN where they are not selected, and so may all
    # results that depend on them: the derivative of a product with 0 may be NaN.
    wild = set(jaxpr.invars if all_wild else ())

    def read(x: Any) -> Any:
        return x.val if isinstance(x, Literal) else values[x]

    for eqn in jaxpr.eqns:
        free = free_inputs(eqn)
        is_wild = not wild.isdisjoint(free)
        run = _replacement(eqn, wild, is_wild)
        if run is None:
            results = alone(eqn)(*map(read, free))
        else:
            results = run(*map(read, eqn.invars))
        if run is not None or is_wild:
            wild.update(eqn.outvars)
        values.update(zip(eqn.outvars, results))
    return [read(x) for x in jaxpr.outvars]


def _replacement(eqn: Any, wild: set[Any], is_wild: bool) -> Evaluate | None:
    """The function to evaluate instead of an equation, or None for the equation."""
    if _has_pole(eqn, wild):
        return lambda *operands: [_finite_primitive(eqn, list(operands))]
    bodies = _bodies(eqn)
    if not bodies or not (is_wild or any(map(_is_singular, bodies))):
        return None
    # A step of a scan may carry wild values to the next one.
    body_is_wild = is_wild or eqn.primitive is p.scan_p
    return CALLS[eqn.primitive](eqn, [finite(body, body_is_wild) for body in bodies])


def _finite_primitive(eqn: Any, operands: list[Any]) -> Array:
    """A primitive that is constant at its poles and where an operand is not finite."""

    def bind(values: list[Any]) -> Array:
        return eqn.primitive.bind(*values, **eqn.params)

    fixed = [jax.lax.stop_gradient(jnp.asarray(x)) for x in operands]
    free = [
        i
        for i, x in enumerate(eqn.invars)
        if not isinstance(x, Literal) and _is_inexact(x)
    ]
    at_pole = reduce(jnp.logical_or, [~jnp.isfinite(fixed[i]) for i in free])
    if eqn.primitive in POLES:
        at_pole |= _is_pole(eqn, fixed)
    # At a pole the derivative is taken at 0.5, where every primitive is smooth, and the
    # outer `where` does not select it, which gives 0 and not 0 times infinity.
    safe = [
        jnp.where(at_pole, 0.5, x) if i in free else x for i, x in enumerate(operands)
    ]
    return jnp.where(at_pole, bind(fixed), _factor_by_factor(eqn, bind)(*safe))


def _factor_by_factor(eqn: Any, bind: Callable[[list[Any]], Array]) -> Callable:
    """A primitive whose derivative multiplies a tangent by one factor after another.

    JAX multiplies it by the slope, which can overflow when none of its factors does. It
    is 1e45 at 1e-30, a number that keeps a root from its pole, and infinity times a
    tangent of 0 is NaN.
    """
    rule, last = FACTORS.get(eqn.primitive), eqn.invars[-1]
    if rule is _power_of and (
        not isinstance(last, Literal) or float(last.val).is_integer()
    ):
        rule = None
    if rule is None:
        return lambda *values: bind(list(values))
    function = jax.custom_jvp(lambda *values: bind(list(values)))

    @function.defjvp
    def derivative(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        out = function(*primals)
        return out, rule(out, primals, tangents, eqn.params)

    return function


def _root(out: Array, primals: tuple, tangents: tuple, params: dict) -> Array:
    return tangents[0] * 0.5 / out


def _reciprocal_root(out: Array, primals: tuple, tangents: tuple, params: dict):
    return tangents[0] * -0.5 * out / primals[0]


def _quotient(out: Array, primals: tuple, tangents: tuple, params: dict) -> Array:
    return tangents[0] / primals[1] - tangents[1] / primals[1] * out


def _power(out: Array, primals: tuple, tangents: tuple, params: dict) -> Array:
    return tangents[0] * params["y"] * out / primals[0]


def _power_of(out: Array, primals: tuple, tangents: tuple, params: dict) -> Array:
    """The derivative for a constant exponent that is not a whole number."""
    exponent = jnp.asarray(primals[1]).astype(out.dtype)
    return tangents[0] * exponent * out / primals[0]


def _angle(out: Array, primals: tuple, tangents: tuple, params: dict) -> Array:
    """The derivative (x dy - y dx) / (x² + y²), whose squares would underflow."""
    size = jnp.maximum(*map(jnp.abs, primals))
    size = jax.lax.stop_gradient(size).astype(out.dtype)
    y, x = (operand / size for operand in primals)
    return (tangents[0] * x - tangents[1] * y) / (x * x + y * y) / size


def _is_pole(eqn: Any, operands: list[Array]) -> Array:
    place, pole = POLES[eqn.primitive]
    x = operands[place]
    if eqn.primitive is p.pow_p:
        # It may be only a later derivative that is infinite, as of x^1.5.
        return (x == 0) & ~_is_natural(operands[1])
    if eqn.primitive is p.atan2_p:
        return (x == 0) & (operands[1] == 0)
    return (jnp.abs(x) if pole == 1 else x) == pole


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
    "its line search (optax.lbfgs(rate, linesearch=None)), or use another optimizer"
)
DECOMPOSITION = (
    "it decomposes a matrix ({}), whose derivative is infinite where singular values "
    "vanish or coincide, as those of a gradient do; use another optimizer"
)
OBSTACLES = {p.while_p: SEARCH} | {
    primitive: DECOMPOSITION.format(primitive.name)
    for primitive in (p.svd_p, p.eigh_p, p.eig_p, p.schur_p, p.qr_p)
}
# For each primitive, the operand in which its derivative is infinite, and the pole; 1
# stands for 1 and -1.
POLES = {
    **dict.fromkeys((p.sqrt_p, p.rsqrt_p, p.cbrt_p, p.log_p), (0, 0)),
    **dict.fromkeys((p.integer_pow_p, p.pow_p, p.atan2_p), (0, 0)),
    **dict.fromkeys((p.asin_p, p.acos_p, p.acosh_p, p.atanh_p, p.erf_inv_p), (0, 1)),
    p.log1p_p: (0, -1),
    p.div_p: (1, 0),
}
FACTORS = {
    p.sqrt_p: _root,
    p.rsqrt_p: _reciprocal_root,
    p.div_p: _quotient,
    p.integer_pow_p: _power,
    p.pow_p: _power_of,
    p.atan2_p: _angle,
}
# Primitives whose derivative is infinite or NaN only if an operand is.
NONLINEAR = {p.mul_p, p.integer_pow_p, p.square_p, p.abs_p, p.exp_p, p.expm1_p}
NONLINEAR |= {p.tanh_p, p.logistic_p}
CALLS = {p.jit_p: _jit, p.remat_p: _remat, p.cond_p: _cond, p.scan_p: _scan}
