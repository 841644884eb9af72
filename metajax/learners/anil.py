"""Almost no inner loop: the head alone adapts."""

from collections.abc import Mapping

import optax

from metajax._pytrees.keyed import keyed_as
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.problem import Problem, of, query_loss, settling, solver
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

    The features of the support set are computed once; otherwise it is `metajax.maml`
    of which the head alone `adapts`.

    Args:
      model: the network, of a body φ and a head ψ: `conv4`, `mlp`, or your own, made by
        `metajax.headed`.
      loss: see `metajax.maml`.
      optimizer: see `metajax.maml`.
      steps: see `metajax.maml`.
      grad: see `metajax.maml`.
      view: see `metajax.maml`.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner`, as `metajax.maml` returns it.

    Raises:
      InputError: if the model does not know its parts, or `steps` is not a whole number
        of at least 0.

    >>> import metajax as mj
    >>> learner = anil(mj.mlp(), mj.mse, optax.sgd(0.01), steps=5)

    Source: Raghu et al., "Rapid Learning or Feature Reuse?", ICLR 2020.
    """
    body, head = parts(model, "anil")
    value = of(head, loss)

    def pose(meta: Params, support: Batch) -> Problem:
        features = body.forward(meta["body"], support.inputs)

        def finish(adapted: Params, step: Array | int) -> Params:
            return {"body": meta["body"], "head": adapted}

        batch = support._replace(inputs=keyed_as(support.inputs, features))
        return Problem(value, optimizer, meta["head"], batch, finish)

    adapt, trajectory = settling(model, *solver(pose, steps, grad=grad, view=view))
    outer = query_loss(adapt, model.forward, loss, metrics)
    return Learner(model.init, adapt, model.predict, outer, trajectory)
