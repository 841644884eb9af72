"""Body only update in the inner loop."""

from collections.abc import Mapping

import optax

from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.problem import Problem, of, query_loss, settling, solver
from metajax.models.headed import parts
from metajax.types import Array, Batch, GradTransform, Learner, Loss, Model, Params


def boil(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML whose inner loop adapts the body and leaves the head as it is.

      φ'_i = φ - α ∇_φ L_support(φ, ψ)   (`steps` times)
      min_{φ,ψ} Σ_i L_query(φ'_i, ψ)

    The head must tell classes apart before the first step, so its start must not be
    zero, as `conv4`'s is: give that one `head="glorot"`.

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
    >>> learner = boil(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)

    Source: Oh et al., "BOIL: Towards Representation Change for Few-shot Learning",
    ICLR 2021.
    """
    parts(model, "boil")
    value = of(model, loss)

    def pose(meta: Params, support: Batch) -> Problem:
        def finish(adapted: Params, step: Array | int) -> Params:
            return {"body": adapted, "head": meta["head"]}

        def of_body(adapted: Params, batch: Batch) -> Array:
            return value(finish(adapted, 0), batch)

        return Problem(of_body, optimizer, meta["body"], support, finish)

    adapt, trajectory = settling(model, *solver(pose, steps, grad=grad, view=view))
    outer = query_loss(adapt, model.apply, loss, metrics)
    return Learner(model.init, adapt, model.apply, outer, trajectory)
