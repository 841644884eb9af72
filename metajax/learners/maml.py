"""Model-agnostic meta-learning, exact and first-order."""

from collections.abc import Mapping

import optax

from metajax.gradients import exact, first_order
from metajax.inner import LossFn, View, whole
from metajax.learners.partition import PathPredicate, everything
from metajax.learners.problem import (
    Problem,
    gradient_learner,
    model_loss,
    restricted,
    solver,
)
from metajax.types import Batch, GradTransform, Learner, Loss, Model, Params


def maml(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    adapts: PathPredicate = everything,
    inner_loss: LossFn | None = None,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Model-agnostic meta-learning: learn the parameters that adapt best.

      θ'_i = θ - α ∇_θ L_support(θ)   (`steps` times)
      min_θ Σ_i L_query(θ'_i)

    The gradient of the second line passes through the first, exactly by default.

    Args:
      model: the network; its parameters are the meta-parameters.
      loss: `loss(outputs, targets) -> scalar` of the query set, and of the support set
        where there is no `inner_loss`.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps; evaluation may take more than training did.
      adapts: `adapts(path) -> bool`, which parameters the inner loop adapts, by their
        paths as `jax.tree_util.keystr` writes them: `lambda path: "bias" in path`. All
        by default; the outer loop learns the others too, and no inner step stores them.
      inner_loss: `inner_loss(params, batch) -> scalar`, minimised on the support set
        instead of `loss`: self-supervised, learnt, or an equation's residual.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose metrics are `loss` and those of `metrics`, on the query set.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if
        `adapts` is true of no parameter.

    >>> import jax, metajax as mj
    >>> learner = maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> episode = jax.tree.map(lambda x: x[0], mj.data.sinusoid()(jax.random.key(0), 1))
    >>> meta = learner.init(jax.random.key(1))
    >>> gradient, metrics = jax.grad(learner.loss, has_aux=True)(meta, episode)

    Source: Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
    Networks", ICML 2017, algorithm 2.
    """
    loss_fn = model_loss(model, loss) if inner_loss is None else inner_loss

    def make_problem(meta: Params, support: Batch) -> Problem:
        return restricted(Problem(loss_fn, optimizer, meta, support), adapts)

    params_solver = solver(make_problem, steps, grad=grad, view=view)
    return gradient_learner(model, params_solver, loss, metrics)


def fomaml(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    adapts: PathPredicate = everything,
    inner_loss: LossFn | None = None,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """First-order MAML: `maml` in which the inner gradient counts as a constant.

      ∇_θ L_query(θ'_i) ≈ ∇_θ' L_query(θ'_i)

    Args:
      model: the network; its parameters are the meta-parameters.
      loss: `loss(outputs, targets) -> scalar` of the query set, and of the support set
        where there is no `inner_loss`.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps.
      adapts: `adapts(path) -> bool`, which parameters the inner loop adapts.
      inner_loss: `inner_loss(params, batch) -> scalar` of the support set.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, as `maml` returns it.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if
        `adapts` is true of no parameter.

    >>> import metajax as mj
    >>> learner = fomaml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)

    Source: Finn et al., ICML 2017, section 5.2.
    """
    return maml(
        model,
        loss,
        optimizer,
        steps,
        adapts=adapts,
        inner_loss=inner_loss,
        grad=first_order,
        view=view,
        metrics=metrics,
    )
