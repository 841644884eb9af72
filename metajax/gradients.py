"""How the inner gradient is differentiated: functions that stand where `jax.grad` does.

Write g(θ, x) = ∇_θ L(θ, x) for the inner gradient. MAML differentiates through it, so
it needs the vector products vᵀ ∂g/∂θ = vᵀ H and vᵀ ∂g/∂x. All of these give the same
numbers, `first_order` apart, which takes them for zero.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from metajax.types import Array, Params, PyTree


def reverse(fun: Callable[..., Array]) -> Callable[..., Params]:
    """`jax.grad`: differentiated again, it is reverse-over-reverse.

    It is differentiable to any order in any mode, and the oracle of the others.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(reverse(lambda x: x**3)(2.0))
    12.0
    """
    return jax.grad(fun)


def mixed(fun: Callable[..., Array]) -> Callable[..., Params]:
    """`jax.grad`, itself differentiated by one forward pass over a reverse one.

    With the cotangent v of the gradient g(θ, x) = ∇_θ L(θ, x), the symmetry of second
    derivatives gives every product at once as a directional derivative along θ:

      vᵀ ∂g/∂θ = d/dε ∇_θ L(θ + εv, x),    vᵀ ∂g/∂x = d/dε ∇_x L(θ + εv, x)

    so no graph of the inner backward pass is kept. Values that `fun` closes over and
    that are differentiated (learned hyper-parameters) are treated as part of x.

    Forward-mode differentiation of the result is not possible (`jax.custom_vjp`); use
    `reverse` for that.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(jax.grad(mixed(lambda x: x**3))(2.0))
    12.0

    Source: Kemaev et al., "Scalable Meta-Learning via Mixed-Mode Differentiation",
    ICML 2025.
    """

    def gradient(params: Params, *args: PyTree) -> Params:
        closed, hoisted = _hoist(fun, params, *args)
        return _mixed(closed, params, (*args, *hoisted))

    return gradient


def _hoist(fun: Callable[..., Array], *args: PyTree) -> tuple[Callable, list[Array]]:
    """`fun` of what it closes over too, and what that is, where it has a derivative.

    As `jax.closure_convert`, which keeps all it has ever traced in a cache of thousands
    that nothing frees, not even the end of `fun`.
    """
    traced, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
    consts, treedef = traced.consts, jax.tree.structure(shape)
    free = [isinstance(x, Tracer) and _is_smooth(x) for x in consts]

    def closed(*values: PyTree) -> Array:
        leaves, now = jax.tree.leaves(values[: len(args)]), iter(values[len(args) :])
        merged = [next(now) if f else x for f, x in zip(free, consts)]
        found = jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, merged))(*leaves)
        return jax.tree.unflatten(treedef, found)

    return closed, [x for f, x in zip(free, consts) if f]


def _is_smooth(x: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mixed(fun: Callable[..., Array], params: Params, args: tuple) -> Params:
    return jax.grad(fun)(params, *args)


def _mixed_forward(fun: Callable[..., Array], params: Params, args: tuple):
    # Not `_mixed` itself, the usual form: inside a scan, jax 0.10 then takes a second
    # derivative of the result that is wrong.
    return jax.grad(fun)(params, *args), (params, args)


def _mixed_backward(fun: Callable[..., Array], residuals: tuple, cotangent: Params):
    params, args = residuals
    leaves, treedef = jax.tree.flatten(args)
    smooth = [_is_smooth(leaf) for leaf in leaves]

    def gradients(params: Params):
        def loss(params: Params, inexact: list):
            values = iter(inexact)
            merged = [next(values) if s else x for s, x in zip(smooth, leaves)]
            return fun(params, *jax.tree.unflatten(treedef, merged))

        inexact = [x for s, x in zip(smooth, leaves) if s]
        return jax.grad(loss, argnums=(0, 1))(params, inexact)

    _, (hvp, mixed_terms) = jax.jvp(gradients, (params,), (cotangent,))
    terms = iter(mixed_terms)
    # `None` is how a custom_vjp says that a leaf, here of integers, has no cotangent.
    return hvp, jax.tree.unflatten(
        treedef, [next(terms) if s else None for s in smooth]
    )


_mixed.defvjp(_mixed_forward, _mixed_backward)


def first_order(fun: Callable[..., Array]) -> Callable[..., Params]:
    """`jax.grad` held constant: its own derivative is taken for zero.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(jax.grad(first_order(lambda x: x**3))(2.0))
    0.0
    """
    gradient = jax.grad(fun)
    return lambda *args: jax.lax.stop_gradient(gradient(*args))


def exact(fun: Callable[..., Array]) -> Callable[..., Params]:
    """The exact second-order gradient, by the form that measured best.

    That is `mixed`: on a CPU, the one backend measured so far, it takes somewhat less
    memory than a rematerialised `reverse` (`benchmarks/README.md`). Forward mode
    through it (`jax.jvp`, `jax.hessian`) is not possible; use `reverse` for that.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(jax.grad(exact(lambda x: x**3))(2.0))
    12.0
    """
    return mixed(fun)
