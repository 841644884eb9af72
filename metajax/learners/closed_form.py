"""Learners that solve for a linear head from the support set, in closed form."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from metajax.checks import check_count, check_model
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.support import SupportFeatures, embed, support_features
from metajax.models.flat import rows
from metajax.ops import linear
from metajax.ops.precision import dtype_of
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class HeadRule(NamedTuple):
    """How a linear head is computed from a support set, with learnt settings.

    Attributes:
      init: `init(dtype) -> settings`, their start: any pytree.
      solve: `solve(settings, examples) -> head`, which is
        `{"kernel": float[d, ways], "bias": float[ways]}`.
    """

    init: Callable[[Any], PyTree]
    solve: Callable[[PyTree, SupportFeatures], Params]


def closed_form(
    body: Model,
    ways: int,
    loss: Loss,
    rule: HeadRule,
    *,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """A linear head, solved for each task, on an embedding that all tasks share.

      ψ_i = rule(φ(support set of task i)),   ŷ = head_ψ_i(φ(x))
      min_φ Σ_i L_query(φ, ψ_i)

    The gradient passes through the rule. No meta-parameter's shape depends on `ways`:
    train with many, test with few. A class without support examples is never predicted.

    Args:
      body: the embedding φ, from inputs to features: `metajax.conv4(ways).parts[0]`, or
        any network of yours.
      ways: the number of classes.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      rule: how the head is computed.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"body": φ, "rule": settings}`, and whose
      `adapt` returns `{"body": φ, "head": ψ}`, as `metajax.headed` has them.

    Raises:
      InputError: if the body is not a `Model`, or `ways` is not a whole number of at
        least 1.
    """
    check_model(body)
    check_count("ways", ways, least=1)

    def init(key: Array) -> PyTree:
        params = body.init(key)
        return {"body": params, "rule": rule.init(dtype_of(params))}

    def adapt(meta: PyTree, support: Batch) -> Params:
        params, features = embed(body, meta["body"], support)
        examples = support_features(features, support.targets, ways)
        head = rule.solve(meta["rule"], examples)
        head = {**head, "bias": examples.only_present(head["bias"])}
        return {"body": params, "head": head}

    def predict(adapted: Params, inputs: PyTree) -> Array:
        features, head = body.forward(adapted["body"], inputs), adapted["head"]
        return linear(rows(features), head["kernel"]) + head["bias"][None]

    return feed_forward_learner(init, adapt, predict, loss, metrics)
