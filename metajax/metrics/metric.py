"""The noun `Metric`, and metrics that are a mean over tasks."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from metajax import losses
from metajax.errors import InputError
from metajax.metrics.intervals import mean
from metajax.types import Array, Loss, PyTree


@dataclass(frozen=True)  # no tuple, of which jax.jit makes no function
class Metric:
    """A score of predictions, over many tasks.

      value, interval = finish(records),   records_i = of_task(outputs_i, targets_i)

    A metric that is a mean over tasks has a number for each task, and may be called as
    a loss is: `metric(outputs, targets) -> scalar`. Others pool what tasks contribute.

    Attributes:
      name: its name in files and tables.
      of_task: `of_task(outputs, targets) -> record`, what one task contributes: a
        pytree of arrays. It is traced, and its shapes are the same for each task.
      finish: `finish(records) -> (value, interval)`, the values over all tasks after
        each adaptation step, `float[steps]`, and half the widths of their 95 %
        intervals. Leaves of `records` are NumPy arrays `[tasks, steps, ...]`.
      better: `better(a, b)`, whether a value `a` is better than `b`: `operator.gt`
        where higher is better.
      format: a value as text.
      unit: of that text, such as "%".
      of_one: `of_one(outputs, targets) -> scalar`, the score of one task, for a metric
        whose records hold more than that score; None by default.

    The peak signal-to-noise ratio of the mean squared error of all tasks, where
    `metajax.metrics.psnr` averages those of each task:

    >>> from metajax import metrics
    >>> def pooled(errors):
    ...     whole, tasks = errors.mean(axis=0), len(errors)
    ...     without = (tasks * whole - errors) / (tasks - 1)
    ...     decibels = lambda error: -10 * np.log10(error)
    ...     return decibels(whole), metrics.jackknife(decibels(without))
    >>> metric = Metric(
    ...     "pooled_psnr", losses.mse, pooled, operator.gt, "{:.2f}".format, "dB"
    ... )
    >>> value, interval = metric.finish(np.array([[0.1], [0.2], [0.3]]))
    >>> print(metric.format(value[0]), metric.format(interval[0]), metric.unit)
    6.99 2.52 dB
    """

    name: str
    of_task: Callable[[Any, Any], PyTree]
    finish: Callable[[PyTree], tuple[np.ndarray, np.ndarray]]
    better: Callable[[float, float], bool]
    format: Callable[[float], str] = "{:.4f}".format
    unit: str = ""
    of_one: Loss | None = None

    @property
    def is_per_task(self) -> bool:
        """Whether each task has a number: of a mean over tasks, or by `of_one`."""
        return self.finish is mean or self.of_one is not None

    def logged(self) -> dict[str, Loss]:
        """What a learner's `metrics` take of it: itself by its name, if it is per task.

        A learner's metrics are averaged over tasks, so of one that pools them nothing.

        >>> list(accuracy.logged())
        ['accuracy']
        """
        return {self.name: self} if self.is_per_task else {}

    def __call__(self, outputs: Any, targets: Any, /) -> Array:
        """The number of one task.

        Raises:
          InputError: if a single task has none.
        """
        if not self.is_per_task:
            raise InputError(
                f"{self.name} pools its tasks, so a single task has no number; give it "
                "to metajax.evaluate, and here a mean over tasks, such as "
                "metajax.accuracy"
            )
        return (self.of_one or self.of_task)(outputs, targets)


@dataclass(frozen=True)
class OverPresent:
    """A score as a mean over the examples that are present; equal for equal scores."""

    score: Loss

    def __call__(self, outputs: PyTree, targets: PyTree) -> Array:
        """The score of one task."""
        return losses.over_present(self.score)(outputs, targets)


def mean_of(
    score: Loss,
    name: str | None = None,
    *,
    better: Callable[[float, float], bool] = operator.lt,
    format: Callable[[float], str] = "{:.4f}".format,
    unit: str = "",
) -> Metric:
    """The mean over tasks of a score of each task.

    Args:
      score: `score(outputs, targets) -> scalar`, a mean over the examples of a task;
        of padded tasks, over those that are present.
      name: see `Metric`; the function's own by default.
      better: see `Metric`; lower is better by default, as for a loss.
      format: see `Metric`.
      unit: see `Metric`.

    Returns:
      A `Metric`; its interval is that of a mean of independent tasks.

    >>> mean_of(losses.mse).name
    'mse'
    """
    known = getattr(score, "__name__", str(score)) if name is None else name
    return Metric(known, OverPresent(score), mean, better, format, unit)


def percent(value: float) -> str:
    """A share as text in per cent, without the sign.

    >>> percent(0.5)
    '50.00'
    """
    return f"{100 * value:.2f}"


accuracy = mean_of(
    losses.accuracy, "accuracy", better=operator.gt, format=percent, unit="%"
)
mse = mean_of(losses.mse)
KNOWN: dict[Any, Metric] = {losses.accuracy: accuracy}


def as_metric(metric: Metric | Loss) -> Metric:
    """A metric as it is; a function of outputs and targets, as the mean of its values.

    Raises:
      InputError: if it is neither, or cannot be told from others by its hash.

    >>> as_metric(losses.accuracy).unit
    '%'
    """
    if isinstance(metric, Metric):
        return metric
    if not callable(metric):
        raise InputError(
            "a metric must be a metajax.Metric, or a function of outputs and targets, "
            f"got {type(metric).__name__}"
        )
    try:
        hash(metric)
    except TypeError:
        raise InputError(
            f"a metric must be hashable, as functions are, got {type(metric).__name__} "
            "that is not; wrap it: lambda outputs, targets: metric(outputs, targets)"
        ) from None
    return KNOWN.get(metric, mean_of(metric))
