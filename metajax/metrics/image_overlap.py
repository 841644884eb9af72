"""Intersection over union of each image, averaged."""

import operator
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from metajax.checks import check_share
from metajax.losses import likeliest
from metajax.metrics.elements import class_sizes, elements_of
from metajax.metrics.intervals import mean
from metajax.metrics.metric import Metric, percent
from metajax.types import Array, Padded


def image_iou(threshold: float | None = None, *, ignore: int | None = None) -> Metric:
    """Intersection over union of each image, averaged over images and then over tasks.

      IoU = 1/|C| Σ_(c ∈ C) |labelled c and predicted c| / |labelled c or predicted c|

    over the classes C > 0 that are labelled or predicted in the image; an image in
    which only the background is counts 1. Small objects weigh as much as large ones
    here, unlike in `mean_iou`. Outputs of a task are logits
    `float[images, ..., classes]`, its targets labels `int[images, ...]`, 0 for the
    background, or `Padded` of them, of which absent images do not count. It is a mean
    over tasks, so a learner's `metrics` may take it too.

    Args:
      threshold: an element is no background where the softmax probability of all
        other classes exceeds it, in [0, 1), and then of the likeliest of them;
        Cluttered Omniglot's is 0.3. By default the likeliest class is predicted.
      ignore: the label of elements that do not count, such as 255.

    Returns:
      A `Metric`. Inside `jit`, where labels cannot be checked, the number of a task is
      NaN if one is no class.

    Raises:
      InputError: if the threshold is out of range; where it is called, if shapes
        differ, or a label is no class.

    >>> from metajax.metrics import image_iou
    >>> logits = jnp.array([[[0.0, 1.0], [0.5, 0.0], [1.0, 0.0]]])
    >>> labels = jnp.array([[1, 0, 0]])
    >>> float(image_iou()(logits, labels)), float(image_iou(0.3)(logits, labels))
    (1.0, 0.5)

    Source: Michaelis et al., "One-Shot Segmentation in Clutter", ICML 2018.
    """
    if threshold is not None:
        check_share("threshold", threshold)
    record = _ImageOverlap(threshold, ignore)
    return Metric("image_iou", record, mean, operator.gt, percent, "%")


@dataclass(frozen=True)
class _ImageOverlap:
    """The mean over the images of one task; equal for equal settings."""

    threshold: float | None
    ignore: int | None

    def __call__(self, outputs: Array, targets: Array | Padded) -> Array:
        guess = likeliest if self.threshold is None else _Above(self.threshold)
        elements = elements_of(
            "image_iou", outputs, targets, ignore=self.ignore, guess=guess
        )
        sizes = class_sizes(elements, outputs.shape[-1])
        both, either = (x[:, 1:].astype(jnp.float32) for x in sizes)
        classes = jnp.sum(either > 0, axis=-1).astype(jnp.float32)
        ratios = jnp.sum(both / jnp.maximum(either, 1), axis=-1)
        lost = elements.known & (elements.guesses < 0)
        other = 1 - lost.reshape(len(lost), -1).any(axis=1).astype(jnp.float32)
        images = jnp.where(classes > 0, ratios / jnp.maximum(classes, 1), other)
        counted = elements.present.astype(jnp.float32)
        value = jnp.sum(images * counted) / jnp.maximum(jnp.sum(counted), 1)
        return jnp.where(jnp.asarray(elements.unknown) > 0, jnp.nan, value)


@dataclass(frozen=True)
class _Above:
    threshold: float

    def __call__(self, outputs: Array) -> Array:
        foreground = 1 - jax.nn.softmax(outputs)[..., 0] > self.threshold
        best = jnp.where(foreground, 1 + jnp.argmax(outputs[..., 1:], -1), 0)
        return jnp.where(jnp.isnan(outputs).any(-1), -1, best)
