"""Almost no inner loop: the head alone adapts."""

from collections.abc import Mapping

import optax

from metajax._pytrees.keyed import keyed_as
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.models.headed import parts
from metajax.types import Array, Batch, GradTransform, Learner, Loss, Model, Params


def anil(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML whose inner loop adapts the head and leaves the body as it is.

      ψ'_i = ψ - α ∇_ψ L_support(φ, ψ)   (`steps` times)
      min_{φ,ψ} Σ_i L_query(φ, ψ'_i)

    The features of the support set are computed once. Everything else is as in
    `metajax.maml` with `adapts=lambda path: path.startswith("['head']")`.

    Args:
      model: the network, of a body φ and a head ψ: `conv4`, `mlp`, or your own, made by
        `metajax.headed`.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the model's.

    Raises:
      InputError: if the model does not know its parts, or `steps` is not a whole number
        of at least 0.

    >>> import metajax as mj
    >>> learner = anil(mj.mlp(), mj.mse, optax.sgd(0.01), steps=5)

    Source: Raghu et al., "Rapid Learning or Feature Reuse?", ICLR 2020.
    """
    body, head = parts(model, "anil")
    head_loss = model_loss(head, loss)

    def make_problem(meta: Params, support: Batch) -> Problem:
        features = body.forward(meta["body"], support.inputs)
        embedded = support._replace(inputs=keyed_as(support.inputs, features))

        def finish(adapted: Params, step: Array | int) -> Params:
            return {"body": meta["body"], "head": adapted}

        return Problem(head_loss, optimizer, meta["head"], embedded, finish)

    head_solver = solver(make_problem, steps, grad=grad, view=view)
    return gradient_learner(model, head_solver, loss, metrics)
