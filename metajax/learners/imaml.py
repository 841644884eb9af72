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
from metajax.inner import Adapt, LossFn, View, whole
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.types import Array, Batch, Learner, Loss, Model, Params

MakeProblem = Callable[[Params, Batch], Problem]
Solve = Callable[[Callable[[Params], Params], Params], Params]


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

    Its memory does not grow with the inner steps, which need only come near φ*; the
    gradient's error grows with the distance from it. Conjugate gradients multiply the
    query loss's gradient by the inverse, with one Hessian-vector product per step.

    Args:
      model: the network; its parameters are the meta-parameters.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the inner optimizer, of the regularised loss.
      steps: the number of inner steps; the paper uses 16 on Omniglot.
      strength: λ, above 0; 2.0 in the paper.
      cg_steps: the maximum number of conjugate-gradient steps; 5 in the paper.
      tolerance: the relative residual at which they stop earlier.
      damping: added to H, in case H + λI is not positive definite.
      view: what each inner step sees of the support set; H is of all of it.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the model's.

    Raises:
      InputError: if a number is out of range; from `adapt`, if the loss holds a
        derivative that is not JAX's own, so that H may not be symmetric.

    >>> import metajax as mj
    >>> learner = imaml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=16, strength=2.0)

    Source: Rajeswaran et al., "Meta-Learning with Implicit Gradients", NeurIPS 2019.
    """
    _check(strength, cg_steps, damping)
    loss_fn = model_loss(model, loss)

    def make_problem(meta: Params, support: Batch) -> Problem:
        return Problem(_proximal(loss_fn, strength, meta), optimizer, meta, support)

    solve = partial(_solve, damping=damping, tolerance=tolerance, steps=cg_steps)
    descent = solver(make_problem, steps, grad=first_order, view=view)
    implicit = descent._replace(adapt=_implicit(descent.adapt, make_problem, solve))
    return gradient_learner(model, implicit, loss, metrics)


def _check(strength: float, cg_steps: int, damping: float) -> None:
    check_count("cg_steps", cg_steps, least=1)
    if not (0 < strength < float("inf") and 0 <= damping < float("inf")):
        raise InputError(
            "strength must be above 0 and damping at least 0, and finite, got "
            f"{strength!r} and {damping!r}"
        )


def _proximal(loss_fn: LossFn, strength: float, meta: Params) -> LossFn:
    """L(φ) + λ/2 |φ - θ|²."""

    def loss(params: Params, batch: Batch) -> Array:
        both = learnt(params), learnt(meta)
        distances = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), *both)
        return loss_fn(params, batch) + strength / 2 * sum(jax.tree.leaves(distances))

    return loss


def _solve(
    hessian: Callable[[Params], Params],
    v: Params,
    *,
    damping: float,
    tolerance: float,
    steps: int,
) -> Params:
    """(H + damping)⁻¹ v, by conjugate gradients."""

    def damped(x: Params) -> Params:
        return jax.tree.map(lambda y, z: y + damping * z, hessian(x), x)

    return cg(damped, v, tol=tolerance, maxiter=steps)[0]


def _implicit(descend: Adapt, make_problem: MakeProblem, solve: Solve) -> Adapt:
    """`descend` with the derivative that the minimum has."""

    def adapt(meta: Params, support: Batch) -> Params:
        def loss(part: Params, meta: Params, support: Batch) -> Array:
            return make_problem(meta, support).loss(completed(part, meta), support)

        args = meta, support
        closed, inputs, unknown = traced_inputs(loss, learnt(meta), args)
        if unknown is not None:
            raise refusal("imaml", "metajax.maml", unknown)
        end = jax.lax.stop_gradient(learnt(descend(*jax.lax.stop_gradient(args))))
        return completed(_at_minimum((closed, solve), end, inputs), meta)

    return adapt


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _at_minimum(problem: tuple[Callable, Solve], minimum: Params, inputs: list):
    """`minimum`, with the derivative of φ* with respect to the loss's inputs."""
    return minimum


def _forward(problem: tuple[Callable, Solve], minimum: Params, inputs: list):
    return minimum, (minimum, inputs)


def _backward(problem: tuple[Callable, Solve], residuals: tuple, cotangent: Params):
    (loss, solve), (minimum, inputs) = problem, residuals
    slope = jax.grad(loss)  # which is zero at φ*
    _, hessian = jax.linearize(lambda params: slope(params, inputs), minimum)
    _, transpose = jax.vjp(partial(slope, minimum), inputs)
    back = jax.tree.map(jnp.negative, solve(hessian, cotangent))
    return jax.tree.map(jnp.zeros_like, minimum), *transpose(back)


_at_minimum.defvjp(_forward, _backward)
