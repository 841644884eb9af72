"""How the inner gradient is differentiated: functions that replace `jax.grad`.

Write g(θ, x) = ∇_θ L(θ, x) for the inner gradient. MAML differentiates through it, so
it needs the vector products vᵀ ∂g/∂θ and vᵀ ∂g/∂x. `reverse` computes them for any loss
that JAX differentiates twice in reverse mode. `mixed` needs a loss with JAX's own
derivatives only, for which ∂g/∂θ is a symmetric Hessian. `exact` chooses between the
two. `first_order` sets the products to zero.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values

from metajax._autodiff.closures import traced_inputs
from metajax._autodiff.rules import refusal
from metajax.types import Array, Params, PyTree


def reverse(fun: Callable[..., Array]) -> Callable[..., Params]:
    """`jax.grad`, whose derivative is reverse-over-reverse.

    It can be differentiated to any order in any mode; the others are tested against it.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(reverse(lambda x: x**3)(2.0))
    12.0
    """
    return jax.grad(fun)


def mixed(fun: Callable[..., Array]) -> Callable[..., Params]:
    """`jax.grad`, whose derivative is one forward pass over a reverse pass.

    With the cotangent v of the gradient g(θ, x) = ∇_θ L(θ, x), the symmetry of second
    derivatives gives both products as one directional derivative along θ:

      vᵀ ∂g/∂θ = d/dε ∇_θ L(θ + εv, x),    vᵀ ∂g/∂x = d/dε ∇_x L(θ + εv, x)

    so nothing of the inner backward pass is stored. What `fun` closes over is part of
    x: learned hyper-parameters are differentiated, and labels, masks and keys may be
    traced.

    Forward-mode differentiation of the result is not possible (`jax.custom_vjp`); use
    `reverse` for that.

    Args:
      fun: `fun(params, *args) -> scalar`, of JAX's own operations.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    Raises:
      InputError: when the result is called, if `fun` has a derivative that is not JAX's
        own (`jax.custom_vjp`, `jax.custom_jvp`, a linear solve, a collective), since
        second derivatives may not be symmetric then. `exact` and `reverse` take any.

    >>> float(jax.grad(mixed(lambda x: x**3))(2.0))
    12.0

    Source: Kemaev et al., "Scalable Meta-Learning via Mixed-Mode Differentiation",
    ICML 2025.
    """

    def gradient(params: Params, *args: PyTree) -> Params:
        closed, inputs, unknown = traced_inputs(fun, params, args)
        if unknown is not None:
            instead = "exact or reverse, which differentiate any loss"
            raise refusal("grad=mixed", instead, unknown)
        return _mixed(closed, params, inputs)

    return gradient


def exact(fun: Callable[..., Array]) -> Callable[..., Params]:
    """The exact second-order gradient of any loss, equal to that of `reverse`.

    It traces the loss, and is `mixed` if every derivative in it is JAX's own. On a CPU,
    the only backend measured so far, that takes somewhat less memory than a
    rematerialised `reverse` (`benchmarks/README.md`). It is `reverse` if the loss has a
    custom derivative (`jax.custom_vjp`, most `jax.custom_jvp`), a linear solve or a
    collective. Use `reverse` to differentiate it in forward mode (`jax.jvp`,
    `jax.hessian`).

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(jax.grad(exact(lambda x: x**3))(2.0))
    12.0

    It also takes a straight-through derivative:

    >>> straight = jax.custom_vjp(jnp.floor)
    >>> straight.defvjp(lambda x: (jnp.floor(x), None), lambda _, g: (g,))
    >>> float(jax.grad(exact(lambda x: straight(x) ** 3 * x))(1.6))
    3.0
    """

    def gradient(params: Params, *args: PyTree) -> Params:
        closed, inputs, unknown = traced_inputs(fun, params, args)
        if unknown is not None:
            return reverse(fun)(params, *args)
        return _mixed(closed, params, inputs)

    return gradient


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mixed(
    fun: Callable[[Params, list], Array], params: Params, inputs: list
) -> Params:
    return jax.grad(fun)(params, inputs)


def _mixed_forward(fun: Callable[[Params, list], Array], params: Params, inputs: list):
    # Inputs that are not differentiated need no derivative.
    moved = [x.value if x.perturbed else None for x in inputs]
    still = [None if x.perturbed else x.value for x in inputs]
    params, inputs = custom_vjp_primal_tree_values((params, inputs))
    # Not `_mixed`, as is usual: inside a scan, JAX 0.10 would then compute a wrong
    # second derivative of the result.
    return jax.grad(fun)(params, inputs), (params, moved, still)


def _mixed_backward(
    fun: Callable[[Params, list], Array], residuals: tuple, cotangent: Params
):
    params, moved, still = residuals

    def gradients(params: Params):
        def loss(params: Params, moved: list) -> Array:
            inputs = [y if x is None else x for x, y in zip(moved, still)]
            return fun(params, inputs)

        return jax.grad(loss, argnums=(0, 1))(params, moved)

    direction = jax.tree.map(_instantiated, cotangent, is_leaf=_is_zero)
    return jax.jvp(gradients, (params,), (direction,))[1]


def _is_zero(x: Any) -> bool:
    return isinstance(x, SymbolicZero)


def _instantiated(x: Any) -> Array:
    return jnp.zeros(x.shape, x.dtype) if _is_zero(x) else x


_mixed.defvjp(_mixed_forward, _mixed_backward, symbolic_zeros=True)


def first_order(fun: Callable[..., Array]) -> Callable[..., Params]:
    """`jax.grad` whose result counts as a constant: its derivative is zero.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(jax.grad(first_order(lambda x: x**3))(2.0))
    0.0
    """
    gradient = jax.grad(fun)
    return lambda *args: jax.lax.stop_gradient(gradient(*args))
