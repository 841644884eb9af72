"""MAML whose inner optimizer is meta-learned too; Meta-SGD is its simplest case."""

from collections.abc import Mapping

import jax

from metajax._pytrees.constant import learnt
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.inner_optimizer import (
    InnerOptimizer,
    check_inner,
    parameter_rates,
)
from metajax.learners.problem import Problem, of, query_loss, settling, solver
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
    """MAML that learns its inner optimizer's own parameters beside the start.

      θ_{k+1} = θ_k + u_ω(∇L_support(θ_k)),    min_{θ,ω} Σ_i L_query(θ_K)

    Args:
      model: the network.
      loss: see `metajax.maml`.
      inner: the inner optimizer u and what of it is learnt, ω.
      steps: inner steps K.
      grad: see `metajax.maml`.
      view: see `metajax.maml`.
      metrics: see `metajax.maml`.

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
    value = of(model, loss)

    def init(key: Array) -> PyTree:
        params_key, inner_key = jax.random.split(key)
        params = model.init(params_key)
        return {"params": params, "inner": inner.init(inner_key, learnt(params))}

    def pose(meta: PyTree, support: Batch) -> Problem:
        return Problem(value, inner.build(meta["inner"]), meta["params"], support)

    adapt, trajectory = settling(model, *solver(pose, steps, grad=grad, view=view))
    outer = query_loss(adapt, model.forward, loss, metrics)
    return Learner(init, adapt, model.predict, outer, trajectory)


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
      loss: see `metajax.maml`.
      rate: where every entry of α starts. (The paper draws one number from [0.005,
        0.1].)
      steps: inner steps; 1 in the paper.
      grad: see `metajax.maml`.
      view: see `metajax.maml`.
      metrics: see `metajax.maml`.

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
