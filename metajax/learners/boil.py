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

    With a head of zeros, which is `conv4`'s default, the body's gradient is zero: use
    another initial head, such as `conv4(ways, head="glorot")`.

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
        adapts=is_of_body,
        grad=grad,
        view=view,
        metrics=metrics,
    )


def is_of_body(path: str) -> bool:
    """True of the body's arrays, by their paths in a headed model's parameters."""
    return path.startswith("['body']")
