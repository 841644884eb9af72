"""MAML of a network whose operations are searched: T-NAS, with its second order."""

from collections.abc import Mapping

import jax
import optax

from metajax.errors import InputError
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.maml import maml
from metajax.types import GradTransform, Learner, Loss, Model, Params, PyTree

ALPHAS = "alphas"


def tnas(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    alphas: optax.GradientTransformation | None = None,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML whose inner loop adapts weights at one rate and an architecture at another.

      θ'_i = θ - β ∇_θ L_support(θ, α),   α'_i = α - γ ∇_α L_support(θ, α)   (`steps`
      times, both at once)
      min_{θ,α} Σ_i L_query(θ'_i, α'_i)

    It is `metajax.maml` of an optimizer in two parts. The paper drops the second order
    for its cost; here the gradient is exact by default.

    Args:
      model: a network whose parameters include α, by the name "alphas", such as
        `metajax.models.cells`.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the optimizer of the weights, with its rate β; the paper's is
        `optax.sgd(0.1)`.
      steps: the number of inner steps; the paper's is 5.
      alphas: the optimizer of α, with its rate γ; `optax.sgd(30.0)` by default, as in
        the paper.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`, as `metajax.maml` returns it.

    Raises:
      InputError: if `steps` is not a whole number of at least 0; from `adapt`, if the
        model has no α.

    >>> import metajax as mj
    >>> model = mj.models.cells(5, mj.models.CellSpace(nodes=2), channels=8)
    >>> learner = tnas(model, mj.cross_entropy, optax.sgd(0.1), steps=5)

    Source: Lian et al., "Towards Fast Adaptation of Neural Architectures with Meta
    Learning", ICLR 2020, algorithm 1.
    """
    alphas = alphas or optax.sgd(30.0)
    both = optax.partition({"weights": optimizer, "alphas": alphas}, _labels)
    return maml(model, loss, both, steps, grad=grad, view=view, metrics=metrics)


def _labels(params: Params) -> PyTree:
    """Which of the two each parameter is, by the names on its path."""

    def label(path: tuple, leaf: PyTree) -> str:
        names = (jax.tree_util.keystr((key,), simple=True) for key in path)
        return "alphas" if ALPHAS in names else "weights"

    labels = jax.tree.map_with_path(label, params)
    if "alphas" not in jax.tree.leaves(labels):
        raise InputError(
            f"tnas needs a model with parameters named {ALPHAS!r}, got one with none; "
            "take metajax.models.cells of a CellSpace, or metajax.maml"
        )
    return labels
