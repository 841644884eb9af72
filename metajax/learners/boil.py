"""Body only update in the inner loop."""

from collections.abc import Mapping

import optax

from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.maml import maml
from metajax.models.headed import parts
from metajax.types import GradTransform, Learner, Loss, Model


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
    return maml(
        model,
        loss,
        optimizer,
        steps,
        adapts=of_body,
        grad=grad,
        view=view,
        metrics=metrics,
    )


def of_body(path: str) -> bool:
    """Whether an array is of the body, by its path."""
    return path.startswith("['body']")
