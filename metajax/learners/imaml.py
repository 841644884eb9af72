"""Implicit MAML: the gradient of where adaptation ends, not of the way there."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg

from metajax._autodiff.closures import traced_inputs
from metajax._autodiff.rules import refusal
from metajax._pytrees.constant import completed, learnt
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.gradients import first_order
from metajax.inner import View, whole
from metajax.learners.problem import Problem, of, query_loss, settling, solver
from metajax.types import Array, Batch, Learner, Loss, Model, Params


def imaml(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    strength: float,
    cg_steps: int = 5,
    tolerance: float = 1e-5,
    damping: float = 0.0,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML with the implicit gradient of a regularised inner problem.

      φ* = argmin_φ L_support(φ) + λ/2 |φ - θ|²
      dφ*/dθ = (I + H/λ)⁻¹,   H = ∇² L_support(φ*)

    The inner loop only has to come near φ*: its memory does not grow with its steps,
    and its gradient is as wrong as it is far away. The inverse is never formed:
    conjugate gradients solve for its product with the query loss's gradient, a
    Hessian-vector product a step.

    Args:
      model: the network.
      loss: see `metajax.maml`.
      optimizer: the inner optimizer, of the regularised loss.
      steps: its steps; the paper takes 16 on Omniglot.
      strength: λ, above 0; 2.0 in the paper.
      cg_steps: steps of conjugate gradients, at most; 5 in the paper.
      tolerance: of their residual, relative, at which they stop earlier.
      damping: added to H, for one that is not positive with λ.
      view: see `metajax.maml`; the gradient is of the whole support set.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner`, as `metajax.maml` returns it.

    Raises:
      InputError: if `strength` is not above 0, `damping` is below, or a number of steps
        is out of range; from `adapt`, if the loss holds a derivative that is not JAX's
        own, of which H need not be symmetric.

    >>> import metajax as mj
    >>> learner = imaml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=16, strength=2.0)

    Source: Rajeswaran et al., "Meta-Learning with Implicit Gradients", NeurIPS 2019.
    """
    check_count("cg_steps", cg_steps, least=1)
    if not (0 < strength < float("inf") and 0 <= damping < float("inf")):
        raise InputError(
            "strength must be above 0 and damping at least 0, and finite, got "
            f"{strength!r} and {damping!r}"
        )
    value = of(model, loss)

    def pose(meta: Params, support: Batch) -> Problem:
        def regularised(params: Params, batch: Batch) -> Array:
            both = learnt(params), learnt(meta)
            apart = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), *both)
            return value(params, batch) + strength / 2 * sum(jax.tree.leaves(apart))

        return Problem(regularised, optimizer, meta, support)

    descend, visited = solver(pose, steps, grad=first_order, view=view)

    def solve(hessian: Callable[[Params], Params], v: Params) -> Params:
        def damped(x: Params) -> Params:
            return jax.tree.map(lambda y, z: y + damping * z, hessian(x), x)

        return cg(damped, v, tol=tolerance, maxiter=cg_steps)[0]

    def implicit(meta: Params, support: Batch) -> Params:
        def loss(part: Params, meta: Params, support: Batch) -> Array:
            return pose(meta, support).loss(completed(part, meta), support)

        args = meta, support
        closed, inputs, unknown = traced_inputs(loss, learnt(meta), args)
        if unknown is not None:
            raise refusal("imaml", "metajax.maml", unknown)
        found = jax.lax.stop_gradient(learnt(descend(*jax.lax.stop_gradient(args))))
        return completed(_at_minimum((closed, solve), found, inputs), meta)

    adapt, trajectory = settling(model, implicit, visited)
    outer = query_loss(adapt, model.forward, loss, metrics)
    return Learner(model.init, adapt, model.predict, outer, trajectory)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _at_minimum(problem: tuple[Callable, Callable], found: Params, inputs: list):
    """`found`, with the derivative that φ* has with respect to the loss's inputs."""
    return found


def _forward(problem: tuple[Callable, Callable], found: Params, inputs: list):
    return found, (found, inputs)


def _backward(problem: tuple[Callable, Callable], residuals: tuple, cotangent: Params):
    (loss, solve), (found, inputs) = problem, residuals
    slope = jax.grad(loss)  # which is zero at φ*
    _, hessian = jax.linearize(lambda params: slope(params, inputs), found)
    _, transpose = jax.vjp(partial(slope, found), inputs)
    back = jax.tree.map(jnp.negative, solve(hessian, cotangent))
    return jax.tree.map(jnp.zeros_like, found), *transpose(back)


_at_minimum.defvjp(_forward, _backward)
