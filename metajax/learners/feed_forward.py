"""What feed-forward learners share, which adapt without an inner loop."""

from collections.abc import Callable, Mapping

import jax

from metajax._pytrees.keyed import undrawn
from metajax.learners.outer_loss import query_loss
from metajax.types import Array, Batch, Learner, Loss, Model, PyTree, unpadded


def feed_forward_learner(
    init: Callable[[Array], PyTree],
    adapt: Callable[[PyTree, Batch], PyTree],
    predict: Callable[[PyTree, PyTree], PyTree],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Learner:
    """A learner without inner steps, whose outer loss is `loss` of the query set.

      min_θ Σ_i L_query(adapt(θ, support set of task i))

    Networks with dropout draw random numbers in the loss, and none in `Learner.adapt`
    and `Learner.predict`.

    Args:
      init: `init(key) -> meta`, the meta-parameters.
      adapt: `adapt(meta, support) -> adapted`.
      predict: `predict(adapted, inputs) -> outputs`.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`; its trajectory has one entry, the result of `adapt`.
    """

    def adapt_undrawn(meta: PyTree, support: Batch) -> PyTree:
        return adapt(meta, support._replace(inputs=undrawn(support.inputs)))

    def predict_undrawn(adapted: PyTree, inputs: PyTree) -> PyTree:
        return predict(adapted, undrawn(inputs))

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        return jax.tree.map(lambda x: x[None], adapt_undrawn(meta, support))

    outer_loss = query_loss(adapt, predict, loss, metrics)
    return Learner(init, adapt_undrawn, predict_undrawn, outer_loss, trajectory)


def identity() -> Model:
    """The embedding of inputs that are features already; it has no parameters."""
    return Model(lambda key: {}, lambda params, inputs: unpadded(inputs)[0])
