"""Prototypical segmentation: a pixel belongs to the class whose prototype is near."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax._pytrees.keyed import values_of
from metajax.checks import check_count, check_model, check_positive
from metajax.learners.feed_forward import feed_forward_learner
from metajax.learners.masked import (
    absent_classes,
    class_masks,
    masked_means,
    resized,
    support_masks,
    without_absent,
)
from metajax.learners.support import cosines, embed
from metajax.losses import over_present, pixel_cross_entropy
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
)


class Prototypes(NamedTuple):
    """What a task is adapted to.

    Attributes:
      body: the body's parameters.
      classes: p, `float[ways + 1, d]`, background first.
      absent: which classes have no pixel, `bool[ways]`.
    """

    body: Params
    classes: Array
    absent: Array


def prototypical_segmenter(
    body: Model,
    ways: int,
    loss: Loss = pixel_cross_entropy,
    *,
    scale: float = 20.0,
    alignment: float = 1.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Labels a pixel by the cosine of its features and the prototype of each class.

      p_c = masked average of φ over the support pixels of class c = 0, ..., ways
      z_c(x, y) = α cos(φ(x, y), p_c)

      L = L_query + λ L_support(prototypes of the queries, by their predicted masks)

    A class without a support pixel is never predicted.

    Args:
      body: φ, from images to maps of features, which are enlarged to the images' size
        where they are smaller: `metajax.unet(2).parts[0]`, or any network of yours.
      ways: the number of classes without the background; no meta-parameter's shape
        depends on it.
      loss: `loss(outputs, targets) -> scalar`, of masks `int[n, height, width]`.
      scale: α.
      alignment: λ; 0 for none.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the body's.

    Raises:
      InputError: if the body is not a `Model`, `ways` is below 1, or a weight is not
        positive.

    >>> import metajax as mj
    >>> learner = prototypical_segmenter(mj.unet(2, (8, 16)).parts[0], ways=1)

    Source: Wang et al., "PANet: Few-Shot Image Semantic Segmentation with Prototype
    Alignment", ICCV 2019.
    """
    check_model(body)
    check_count("ways", ways, least=1)
    check_positive("scale", scale)
    if alignment:
        check_positive("alignment", alignment)

    def adapt(meta: Params, support: Batch) -> Prototypes:
        params, features = embed(body, meta, support)
        members = class_masks(support_masks(support), ways, features.dtype)
        return Prototypes(params, _means(features, members), absent_classes(members))

    def predict(adapted: Prototypes, inputs: PyTree) -> Array:
        features = body.forward(adapted.body, inputs)
        logits = scale * cosines(features, adapted.classes)
        return without_absent(resized(logits, _size(inputs)), adapted.absent)

    learner = feed_forward_learner(body.init, adapt, predict, loss, metrics)
    return _aligned(learner, loss, alignment) if alignment else learner


def _aligned(learner: Learner, loss: Loss, weight: float) -> Learner:
    """The same learner, whose loss also labels the support set by the queries."""

    def aligned_loss(meta: Params, episode: Episode) -> tuple[Array, Metrics]:
        value, values = learner.loss(meta, episode)
        support, query = episode
        outputs = learner.predict(learner.adapt(meta, support), query.inputs)
        labels = jnp.argmax(outputs, -1)
        padded = isinstance(query.targets, Padded)
        targets = query.targets._replace(values=labels) if padded else labels
        labelled = query._replace(targets=targets)
        adapted = learner.adapt(meta, labelled)
        # Classes that no query is taken for may be right here.
        every = adapted._replace(absent=jnp.zeros_like(adapted.absent))
        outputs = learner.predict(every, support.inputs)
        aligned = over_present(loss)(outputs, support.targets)
        total = value + weight * aligned
        return total, {**values, "loss": total, "alignment": aligned}

    return learner._replace(loss=aligned_loss)


def _size(inputs: PyTree) -> tuple[int, ...]:
    """(height, width) of images."""
    return jax.tree.leaves(values_of(inputs))[0].shape[1:3]


def _means(features: Array, members: Array) -> Array:
    return masked_means(resized(features, members.shape[1:3]), members)
