"""Detects what is alike to the objects of the support set."""

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.detection import CentreMaps
from metajax.learners.class_codes import (
    ClassCodes,
    check_settings,
    class_codes,
    detected,
)
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.support import embed
from metajax.models.centre_head import centre_head
from metajax.models.convolution import convolution
from metajax.models.initialise import init_named
from metajax.ops.precision import dtype_of
from metajax.types import Array, Batch, Learner, Loss, Model, Params, PyTree


class Coded(NamedTuple):
    """The parameters, and the codes of the classes of a task.

    Attributes:
      params: the meta-parameters, whose body has settled on the support set.
      classes: the codes.
    """

    params: Params
    classes: ClassCodes


def correlation_detector(
    body: Model,
    ways: int,
    loss: Loss,
    *,
    stride: int,
    channels: int,
    filters: int = 64,
    scale: float = 10.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Detects objects by the similarity of a map of features to a code of each class.

      c_k = mean over the support boxes of class k of the mean of T φ(x) in the box
      heat_k(x) = o(φ(x)) + s (cos(T φ(x), c_k) - 1)

    A head without classes gives o, sizes and offsets of objects of any kind. T is a 1x1
    convolution with a bias. A class without support examples is never detected.

    Args:
      body: φ, from images to maps of features `[n, rows, columns, channels]`, such as
        `metajax.models.feature_pyramid`.
      ways: the number of classes; no meta-parameter's shape depends on it.
      loss: of the query set, such as `metajax.detection.centre_loss(stride)`.
      stride: the side of a cell of the maps in pixels.
      channels: the number of features of each place.
      filters: the width of the head; see `metajax.models.centre_head`.
      scale: the initial value of s, whose logarithm is learnt.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` of targets `metajax.detection.Boxes` and outputs `CentreMaps`, which
      `metajax.detection.decode` turns into boxes. Its meta-parameters are `{"body",
      "head", "embedding", "log_scale"}`, and its `adapt` returns a `Coded`.

    Raises:
      InputError: if the body is not a `Model`, or a number is out of range.

    >>> import metajax as mj
    >>> body, _ = mj.conv4(5, 8, image_shape=(32, 32, 3), halvings=2).parts
    >>> loss = mj.detection.centre_loss(4)
    >>> learner = correlation_detector(body, 3, loss, stride=4, channels=8)

    Source: Perez-Rua et al., "Incremental Few-Shot Object Detection" (ONCE), CVPR 2020,
    whose products have no norm; Kang et al., "Few-shot Object Detection via Feature
    Reweighting", ICCV 2019.
    """
    check_settings(body, ways, stride, scale)
    layers = partial(_layers, channels, filters)
    parts = _Parts(body, *layers().values())
    init = partial(_init, body, layers, math.log(scale))
    adapt = partial(parts.adapt, ways, stride)
    return feed_forward_learner(init, adapt, parts.predict, loss, metrics)


class _Parts(NamedTuple):
    """φ, the head of one class, and T."""

    body: Model
    head: Model
    embedding: Model

    def adapt(self, ways: int, stride: int, meta: PyTree, support: Batch) -> Coded:
        params, features = embed(self.body, meta["body"], support)
        embedded = self.embedding.apply(meta["embedding"], features)
        classes = class_codes(embedded, support.targets, ways, stride)
        return Coded({**meta, "body": params}, classes)

    def predict(self, adapted: Coded, inputs: PyTree) -> CentreMaps:
        params, classes = adapted
        features = self.body.forward(params["body"], inputs)
        objects = self.head.apply(params["head"], features)
        embedded = self.embedding.apply(params["embedding"], features)
        return detected(objects, embedded, classes, jnp.exp(params["log_scale"]))


def _layers(
    channels: int, filters: int, dtype: jnp.dtype | type = jnp.float32
) -> dict[str, Model]:
    head = centre_head(channels, 1, filters, dtype=dtype)
    return {"head": head, "embedding": convolution(1, channels, channels, dtype=dtype)}


def _init(body: Model, layers: partial, log_scale: float, key: Array) -> Params:
    first, second = jax.random.split(key)
    params = body.init(first)
    dtype = dtype_of(params)
    others = init_named(layers(dtype), second)
    return {"body": params, **others, "log_scale": jnp.asarray(log_scale, dtype)}
