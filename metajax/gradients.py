"""How the inner gradient is differentiated: functions that stand where `jax.grad` does.

Write g(θ, x) = ∇_θ L(θ, x) for the inner gradient. MAML differentiates through it, so
it needs the vector products vᵀ ∂g/∂θ and vᵀ ∂g/∂x. `reverse` has them of any loss that
JAX differentiates twice in reverse mode; `mixed` of a loss all of whose derivatives are
JAX's own, so that ∂g/∂θ is a Hessian, and symmetric; `exact` takes the one that is
right for the loss; `first_order` takes them for zero.
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

    so no graph of the inner backward pass is kept. What `fun` closes over is treated as
    part of x: learned hyper-parameters are differentiated, and labels, masks and keys
    may be values of an outer transformation.

    Forward-mode differentiation of the result is not possible (`jax.custom_vjp`); use
    `reverse` for that.

    Args:
      fun: `fun(params, *args) -> scalar`, of JAX's own operations.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    Raises:
      InputError: when it is called, if `fun` holds a derivative that is not JAX's own
        (`jax.custom_vjp`, `jax.custom_jvp`, a linear solve, a collective): second
        derivatives need not be symmetric then. `exact` and `reverse` take any.

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

    It is `mixed` where every derivative in the loss is JAX's own, which it finds by
    tracing the loss: on a CPU, the one backend measured so far, that takes somewhat
    less memory than a rematerialised `reverse` (`benchmarks/README.md`). It is
    `reverse` where the loss holds somebody's derivative (`jax.custom_vjp`, most of
    `jax.custom_jvp`), a linear solve or a collective. Forward mode through it
    (`jax.jvp`, `jax.hessian`) needs `reverse`.

    Args:
      fun: `fun(params, *args) -> scalar`.

    Returns:
      The function `(params, *args) -> gradient` with respect to `params`.

    >>> float(jax.grad(exact(lambda x: x**3))(2.0))
    12.0

    With a derivative that is passed straight through a step, as without:

    >>> held = jax.custom_vjp(jnp.floor)
    >>> held.defvjp(lambda x: (jnp.floor(x), None), lambda _, g: (g,))
    >>> float(jax.grad(exact(lambda x: held(x) ** 3 * x))(1.6))
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
    # Of what nothing is differentiated by, no derivative need exist.
    moved = [x.value if x.perturbed else None for x in inputs]
    still = [None if x.perturbed else x.value for x in inputs]
    params, inputs = custom_vjp_primal_tree_values((params, inputs))
    # Not `_mixed` itself, the usual form: inside a scan, jax 0.10 then takes a second
    # derivative of the result that is wrong.
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
