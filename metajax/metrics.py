"""Metrics: how a kind of task is judged, over many tasks."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from metajax import losses
from metajax.types import Loss, PyTree

Z95 = 1.959964  # the normal quantile of a two-sided 95 % interval


class Metric(NamedTuple):
    """How a kind of task is judged.

      finish([of_task(outputs_1, targets_1), ..., of_task(outputs_B, targets_B)])

    Called as `metric(outputs, targets)`, it is `of_task`: for a mean over tasks, the
    number itself, so that it may stand where a loss does.

    Attributes:
      name: what files and tables call it.
      of_task: `of_task(outputs, targets) -> record`, what one task contributes: a
        pytree of arrays. It is traced, and its shapes are the same for each task.
      finish: `finish(records) -> (value, interval)`, the number over all tasks, whose
        axis leads every leaf, and half the width of its 95 % interval. Of NumPy arrays.
      better: `better(a, b)`, whether a value `a` is better than `b`: `operator.gt`
        where a higher one is.
      format: a value as text.
      unit: of that text, such as "%".
    """

    name: str
    of_task: Callable[[Any, Any], PyTree]
    finish: Callable[[PyTree], tuple[float, float]]
    better: Callable[[float, float], bool]
    format: Callable[[float], str] = "{:.4f}".format
    unit: str = ""

    def __call__(self, outputs: Any, targets: Any, /) -> PyTree:
        """What one task contributes."""
        return self.of_task(outputs, targets)


def mean(values: np.ndarray) -> tuple[float, float]:
    """The mean over tasks and half the width of its 95 % confidence interval.

    >>> mean(np.array([0.5, 1.0, 0.75, 0.75]))
    (0.75, 0.2000379...)
    """
    values = np.asarray(values, float)
    with np.errstate(invalid="ignore"):  # an adaptation that diverges is a result too
        error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(Z95 * error)


def mean_of(
    score: Loss,
    name: str | None = None,
    *,
    better: Callable[[float, float], bool] = operator.lt,
    format: Callable[[float], str] = "{:.4f}".format,
    unit: str = "",
) -> Metric:
    """The mean over tasks of a number that each task has.

    Args:
      score: `score(outputs, targets) -> scalar`, a mean over the examples of a task;
        of padded tasks, over those that are present.
      name: see `Metric`; the function's own by default.
      better: see `Metric`; lower by default, as of a loss.
      format: see `Metric`.
      unit: see `Metric`.

    Returns:
      A `Metric`.

    >>> mean_of(losses.mse).name
    'mse'
    """
    known = getattr(score, "__name__", str(score)) if name is None else name
    return Metric(known, losses.over_present(score), mean, better, format, unit)


def percent(value: float) -> str:
    """A share as text in per cent, without the sign.

    >>> percent(0.5)
    '50.00'
    """
    return f"{100 * value:.2f}"


accuracy = mean_of(
    losses.accuracy, "accuracy", better=operator.gt, format=percent, unit="%"
)
mse = mean_of(losses.mse, "mse")
KNOWN: dict[Any, Metric] = {losses.accuracy: accuracy}


def as_metric(metric: Metric | Loss) -> Metric:
    """A metric as it is; a function of outputs and targets, as the mean of its values.

    >>> as_metric(losses.accuracy).unit
    '%'
    """
    return metric if isinstance(metric, Metric) else KNOWN.get(metric, mean_of(metric))
