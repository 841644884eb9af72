"""A classifier of signals by the weights of a network that was fitted to each."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.constant import learnt
from metajax._pytrees.keyed import values_of
from metajax.checks import check_model
from metajax.errors import InputError
from metajax.gradients import exact
from metajax.inner import LossFn, View, whole
from metajax.learners.inner_optimizer import InnerOptimizer, parameter_rates
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.learners.weight_features import Features, weight_changes
from metajax.losses import cross_entropy
from metajax.types import (
    Array,
    Batch,
    GradTransform,
    LabelledValues,
    Learner,
    Loss,
    Model,
    Params,
    PyTree,
)


def mwt(
    field: Model,
    classifier: Model,
    loss: Loss,
    rate: float,
    *,
    steps: int = 3,
    reconstruction: float = 1.0,
    features: Features = weight_changes,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Classifies a signal by the weights fitted to it from a meta-learnt start.

      θ'_i = θ - α ∘ ∇_θ L(θ; signal i)   (`steps` times)
      min_{θ,α,ψ} Σ_i CE(c_ψ(features(θ, θ'_i)), label_i) + λ L(θ'_i; queries of i)

    The classifier's gradient passes through the inner loop, exactly by default. The
    paper's is a Transformer of the layers' columns; here it is any network of a vector.

    Args:
      field: the network from coordinates to values.
      classifier: the network from `[n, features]` to logits `[n, classes]`.
      loss: L(outputs, targets), of values.
      rate: the initial value of every entry of α.
      steps: the number of inner steps.
      reconstruction: λ.
      features: the inputs of the classifier: `weight_changes`, or a baseline in
        `metajax.learners`: `detached_weight_changes`, or `sorted_values`.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` of tasks as `metajax.data.labelled_fields` makes them, whose outputs
      are `LabelledValues`: all points of a signal have one predicted label.

    Raises:
      InputError: for a `rate`, `reconstruction` or `steps` out of range.

    >>> import metajax as mj
    >>> field = mj.siren(2, (8,))  # of 2 x 8 + 8 + 8 + 1 weights
    >>> learner = mwt(field, mj.mlp(33, (16,), 10), mj.mse, rate=0.01)

    Source: Gielisse & van Gemert, "End-to-End Implicit Neural Representations for
    Classification", CVPR 2025.
    """
    inner = parameter_rates(rate)
    own = _Parts(field, classifier, inner, model_loss(field, loss), features)
    outer = _outer_loss(loss, reconstruction)
    fitting = solver(own.make_problem, steps, grad=grad, view=view)
    learner = gradient_learner(own.labelled, fitting, outer, metrics)
    return learner._replace(init=own.init)


class _Parts(NamedTuple):
    """What the learner is made of."""

    field: Model
    classifier: Model
    inner: InnerOptimizer
    loss: LossFn
    features: Features

    @property
    def labelled(self) -> Model:
        """From adapted weights and points to values, and its signal's logits."""
        for model in (self.field, self.classifier):
            check_model(model)

        def apply(adapted: PyTree, inputs: PyTree) -> LabelledValues:
            values = self.field.forward(adapted["params"], inputs)
            logits = adapted["logits"]
            every = jnp.broadcast_to(logits, (len(values), *logits.shape))
            return LabelledValues(values, every)

        return Model(self.field.init, apply)

    def init(self, key: Array) -> PyTree:
        """The meta-parameters θ, α and ψ."""
        keys = jax.random.split(key, 3)
        params = self.field.init(keys[0])
        return {
            "params": params,
            "inner": self.inner.init(keys[1], learnt(params)),
            "classifier": self.classifier.init(keys[2]),
        }

    def make_problem(self, meta: PyTree, support: Batch) -> Problem:
        """The fit of one signal, and its logits."""
        start = meta["params"]

        def finish(params: Params, step: Array | int) -> PyTree:
            seen = self.features(start, params, support)[None]
            logits = self.classifier.forward(meta["classifier"], seen)[0]
            fitted = self.field.settle(params, values_of(support.inputs))
            return {"params": fitted, "logits": logits}

        rule = self.inner.build(meta["inner"])
        return Problem(self.loss, rule, start, support, finish)


def _outer_loss(loss: Loss, reconstruction: float) -> Loss:
    """Of `LabelledValues`: the cross entropy and the weighted loss of values.

    Raises:
      InputError: if the weight is negative or not finite.
    """
    if not 0 <= reconstruction < math.inf:
        raise InputError(
            "reconstruction must be at least 0 and finite: it weighs the loss of the "
            f"values beside that of the labels, got {reconstruction!r}"
        )

    def value(outputs: Any, targets: Any) -> Array:
        named = cross_entropy(outputs.labels, targets.labels)
        return named + reconstruction * loss(outputs.values, targets.values)

    return value
