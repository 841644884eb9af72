"""Model-agnostic meta-learning, exact and first-order."""

from collections.abc import Mapping

import optax

from metajax.gradients import exact, first_order
from metajax.inner import LossFn, View, whole
from metajax.learners.choice import Chosen, everything
from metajax.learners.problem import (
    Problem,
    of,
    of_part,
    query_loss,
    settling,
    solver,
)
from metajax.types import Batch, GradTransform, Learner, Loss, Model, Params


def maml(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    adapts: Chosen = everything,
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
      loss: `loss(outputs, targets) -> scalar`, of the query set, and of the support
        set unless there is an `inner_loss`.
      optimizer: the inner optimizer, with its rate α; see `metajax.inner_loop`.
      steps: the number of inner steps; evaluation may take more than training did.
      adapts: which parameters the inner loop adapts, by their paths as
        `jax.tree_util.keystr` writes them: all by default. The others are learnt
        outside alone, and no step stores them.
      inner_loss: `inner_loss(params, batch) -> scalar`, what adaptation descends
        instead, of all parameters and the support set: self-supervised, learnt, or an
        equation's residual.
      grad: how the inner gradient is differentiated, and what of each step is stored
        for it; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all by default.
      metrics: further functions of (outputs, targets) to report by name.

    Returns:
      A `Learner` whose metrics are `loss` and those of `metrics`, on the query set.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if
        `adapts` picks nothing.

    >>> import jax, metajax as mj
    >>> learner = maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> episode = jax.tree.map(lambda x: x[0], mj.data.sinusoid()(jax.random.key(0), 1))
    >>> meta = learner.init(jax.random.key(1))
    >>> gradient, metrics = jax.grad(learner.loss, has_aux=True)(meta, episode)

    The biases alone adapt:

    >>> learner = maml(
    ...     mj.mlp(), mj.mse, optax.sgd(0.01), 1, adapts=lambda path: "bias" in path
    ... )

    Source: Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
    Networks", ICML 2017, algorithm 2.
    """
    of_outputs = of(model, loss)
    value = of_outputs if inner_loss is None else inner_loss

    def pose(meta: Params, support: Batch) -> Problem:
        return of_part(Problem(value, optimizer, meta, support), adapts)

    adapt, trajectory = settling(model, *solver(pose, steps, grad=grad, view=view))
    outer = query_loss(adapt, model.forward, loss, metrics)
    return Learner(model.init, adapt, model.predict, outer, trajectory)


def fomaml(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    adapts: Chosen = everything,
    inner_loss: LossFn | None = None,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """First-order MAML: `maml` with the inner gradient held constant.

      ∇_θ L_query(θ'_i) ≈ ∇_θ' L_query(θ'_i)

    Args:
      model: see `maml`.
      loss: see `maml`.
      optimizer: see `maml`.
      steps: see `maml`.
      adapts: see `maml`.
      inner_loss: see `maml`.
      view: see `maml`.
      metrics: see `maml`.

    Returns:
      A `Learner`, as `maml` returns it.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if
        `adapts` picks nothing.

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
