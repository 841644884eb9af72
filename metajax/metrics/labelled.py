"""Metrics of signals that have a label."""

import operator

import numpy as np

from metajax import losses
from metajax.errors import InputError
from metajax.metrics.intervals import mean
from metajax.metrics.metric import Metric, mean_of, percent
from metajax.types import Array, LabelledValues, PyTree, unpadded


def _accuracy(outputs: LabelledValues, targets: LabelledValues) -> Array:
    return losses.accuracy(outputs.labels, targets.labels)


label_accuracy: Metric = mean_of(
    _accuracy, "accuracy", better=operator.gt, format=percent, unit="%"
)
"""The share of `LabelledValues` whose predicted label is right."""


def _accuracy_of_signal(
    outputs: LabelledValues, targets: PyTree
) -> tuple[Array, Array]:
    signals = unpadded(targets)[0].signals
    if signals is None:
        raise InputError(
            "signal_accuracy needs the number of each signal, got targets whose "
            "signals are None; give them, or take metajax.metrics.label_accuracy"
        )
    return label_accuracy(outputs, targets), signals[0]


def _mean_over_signals(
    records: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the signals that were drawn; one alone has no interval."""
    accuracies, numbers = (np.asarray(x) for x in records)
    _, first, places = np.unique(numbers[:, 0], return_index=True, return_inverse=True)
    of_signals = np.zeros((len(first), accuracies.shape[1]))
    np.add.at(of_signals, places, accuracies)
    of_signals /= np.bincount(places)[:, None]
    if len(of_signals) == 1:
        return of_signals[0], np.full_like(of_signals[0], np.nan)
    return mean(of_signals)


signal_accuracy: Metric = Metric(
    "signal_accuracy",
    _accuracy_of_signal,
    _mean_over_signals,
    operator.gt,
    percent,
    "%",
    of_one=label_accuracy,
)
"""The same of each signal, averaged over the signals that tasks have drawn.

  value = (1/signals) Σ_s a_s,   a_s: the mean accuracy of the tasks of signal s

So a signal that many tasks draw counts once, and the interval is that of a mean of
so many signals, not of so many tasks. Targets have the number of each signal beside
its label, as those of `metajax.data.labelled_fields`.
"""
