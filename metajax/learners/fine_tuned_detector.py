"""The baseline of detection: a detector that is trained once, and a fine-tuned head."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.keyed import undrawn
from metajax.checks import check_episode
from metajax.detection import CentreMaps
from metajax.inner import View, whole
from metajax.learners.class_codes import (
    ClassCodes,
    check_settings,
    class_codes,
    detected,
)
from metajax.learners.outer_loss import query_metrics
from metajax.learners.problem import Problem, solver
from metajax.learners.support import embed
from metajax.losses import over_present
from metajax.models.centre_head import centre_head
from metajax.models.headed import headed
from metajax.ops.precision import dtype_of
from metajax.ops.unit_rows import unit_rows
from metajax.types import (
    Array,
    Batch,
    Episode,
    Learner,
    Loss,
    Metrics,
    Model,
    Padded,
    Params,
    PyTree,
    unpadded,
)


class FineTuned(NamedTuple):
    """The parameters, and the head of a task's classes.

    Attributes:
      params: of the detector of objects of any kind, `{"body", "head"}`; the body has
        settled on the support set.
      classes: the weights of each class, fine-tuned from its code.
    """

    params: Params
    classes: ClassCodes


def fine_tuned_detector(
    body: Model,
    ways: int,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    stride: int,
    channels: int,
    filters: int = 64,
    scale: float = 20.0,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Two stages: a detector without classes is trained, then only a cosine head.

      first, over all tasks    min_{φ,ψ} L_query(o_ψ(φ(x)), boxes without their classes)
      then, on a support set   heat_k(x) = o_ψ(φ(x)) + s (cos(φ(x), w_k) - 1)
                               w ← w - α ∇_w L_support(heat, boxes)   (`steps` times)

    The first is `Learner.loss`, the second `Learner.adapt`: no gradient passes through
    an inner loop. w_k starts at the mean of φ(x) in the boxes of class k, normalised.
    TFA starts w_k at random, adapts the boxes too, and uses classes in both stages.

    Args:
      body: see `metajax.learners.correlation_detector`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: of both stages, such as `metajax.detection.centre_loss(stride)`.
      optimizer: the optimizer of the second stage.
      steps: the number of its steps.
      stride: see `metajax.learners.correlation_detector`.
      channels: see there.
      filters: see there.
      scale: s.
      view: what each step sees of the support set; all of it by default.
      metrics: more functions to report, of the first stage, where all labels are 0.

    Returns:
      A `Learner`, whose meta-parameters are those of `metajax.headed(body,
      centre_head(channels, 1, filters))` and whose `adapt` returns a `FineTuned`.

    Raises:
      InputError: if the body is not a `Model`, or a number is out of range.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, 8, image_shape=(32, 32, 3), halvings=2).parts
    >>> loss, sizes = mj.detection.centre_loss(4), dict(stride=4, channels=8)
    >>> learner = fine_tuned_detector(body, 3, loss, optax.sgd(1.0), steps=20, **sizes)

    Source: Wang et al., "Frustratingly Simple Few-Shot Object Detection", ICML 2020.
    """
    check_settings(body, ways, stride, scale)
    head = centre_head(channels, 1, filters)
    stage = _SecondStage(body, head, ways, stride, scale)
    descent = solver(partial(stage.problem, loss, optimizer), steps, view=view)
    init = partial(_init, body, partial(centre_head, channels, 1, filters))
    measure = query_metrics(headed(body, head).forward, loss, metrics)
    adapt, trajectory = (partial(_undrawn, solve) for solve in descent)
    first = partial(_first_stage, measure)
    return Learner(init, adapt, stage.predict, first, trajectory)


class _SecondStage(NamedTuple):
    """What a task is fine-tuned with: φ, the head of one class, and settings."""

    body: Model
    head: Model
    ways: int
    stride: int
    scale: float

    def problem(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        meta: Params,
        support: Batch,
    ) -> Problem:
        """Of w. The features of the support set are computed once."""
        params, features = embed(self.body, meta["body"], support)
        codes = class_codes(features, support.targets, self.ways, self.stride)
        start = codes._replace(codes=unit_rows(codes.codes))

        def loss_fn(kernel: Array, seen: Batch) -> Array:
            objects, features = seen.inputs
            classes = start._replace(codes=kernel)
            return score(detected(objects, features, classes, self.scale), seen.targets)

        def finish(kernel: Array, step: Array | int) -> FineTuned:
            return FineTuned({**meta, "body": params}, start._replace(codes=kernel))

        score = over_present(loss)
        inputs = self.head.apply(meta["head"], features), features
        seen = support._replace(inputs=inputs)
        return Problem(loss_fn, optimizer, start.codes, seen, finish)

    def predict(self, adapted: FineTuned, inputs: PyTree) -> CentreMaps:
        params, classes = adapted
        features = self.body.predict(params["body"], inputs)
        objects = self.head.apply(params["head"], features)
        return detected(objects, features, classes, self.scale)


def _init(body: Model, head: Callable[..., Model], key: Array) -> Params:
    dtype = dtype_of(jax.eval_shape(body.init, key))
    return headed(body, head(dtype=dtype)).init(key)


def _undrawn(solve: Callable[[Params, Batch], FineTuned], meta: Params, support: Batch):
    return solve(meta, support._replace(inputs=undrawn(support.inputs)))


def _first_stage(
    measure: Callable[[Params, Batch], Metrics], meta: Params, episode: Episode
) -> tuple[Array, Metrics]:
    """The loss of a query set whose objects are all of class 0."""
    check_episode(episode)
    query = episode.query
    boxes, present = unpadded(query.targets)
    boxes = boxes._replace(labels=jnp.zeros_like(boxes.labels))
    targets = boxes if present is None else Padded(boxes, present)
    values = measure(meta, query._replace(targets=targets))
    return values["loss"], values
