"""Metrics of signals that have a label."""

import operator

from metajax import losses
from metajax.metrics.metric import Metric, mean_of, percent
from metajax.types import Array, LabelledValues


def _accuracy(outputs: LabelledValues, targets: LabelledValues) -> Array:
    return losses.accuracy(outputs.labels, targets.labels)


label_accuracy: Metric = mean_of(
    _accuracy, "accuracy", better=operator.gt, format=percent, unit="%"
)
"""The share of `LabelledValues` whose predicted label is right."""
