"""MAML whose inner optimizer is meta-learned too; Meta-SGD is its simplest case."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from metajax._pytrees.constant import learnt
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.inner_optimizer import (
    InnerOptimizer,
    check_inner,
    parameter_rates,
)
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.types import Array, Batch, GradTransform, Learner, Loss, Model, PyTree


def learned_maml(
    model: Model,
    loss: Loss,
    inner: InnerOptimizer,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML that also learns the parameters of its inner optimizer.

      θ_{k+1} = θ_k + u_ω(∇L_support(θ_k)),    min_{θ,ω} Σ_i L_query(θ_K)

    Args:
      model: the network.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      inner: the inner optimizer u and its learnt parameters ω.
      steps: the number of inner steps K.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"params": θ, "inner": ω}`.

    Raises:
      InputError: if `inner` is an optimizer of optax, or `steps` is not a whole number
        of at least 0.

    >>> import metajax as mj
    >>> inner = mj.learners.step_rates(0.01, steps=5)
    >>> learner = learned_maml(mj.mlp(), mj.mse, inner, steps=5)
    >>> sorted(learner.init(jax.random.key(0)))
    ['inner', 'params']
    """
    check_inner(inner)
    loss_fn = model_loss(model, loss)

    def init(key: Array) -> PyTree:
        params_key, inner_key = jax.random.split(key)
        params = jax.tree.map(jnp.asarray, model.init(params_key))
        return {"params": params, "inner": inner.init(inner_key, learnt(params))}

    def make_problem(meta: PyTree, support: Batch) -> Problem:
        return Problem(loss_fn, inner.build(meta["inner"]), meta["params"], support)

    inner_solver = solver(make_problem, steps, grad=grad, view=view)
    learner = gradient_learner(model, inner_solver, loss, metrics)
    return learner._replace(init=init)


def meta_sgd(
    model: Model,
    loss: Loss,
    rate: float,
    steps: int = 1,
    *,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML with a learnt rate for each parameter, which may turn negative.

      θ'_i = θ - α ∘ ∇_θ L_support(θ)   (`steps` times)
      min_{θ,α} Σ_i L_query(θ'_i)

    Args:
      model: the network.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      rate: the initial value of α's entries; the paper draws them from [0.005, 0.1].
      steps: the number of inner steps; 1 in the paper.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"params": θ, "inner": α}`.

    Raises:
      InputError: if `rate` is not finite, or `steps` is not a whole number of at least
        0.

    >>> import metajax as mj
    >>> learner = meta_sgd(mj.mlp(), mj.mse, rate=0.01)

    Source: Li et al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
    2017.
    """
    inner = parameter_rates(rate)
    return learned_maml(
        model, loss, inner, steps, grad=grad, view=view, metrics=metrics
    )
