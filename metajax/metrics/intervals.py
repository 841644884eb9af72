"""95 % confidence intervals over tasks."""

import numpy as np

Z95 = 1.959964  # the normal quantile of a two-sided 95 % interval
LEAST_TASKS = 10  # of each class, for an interval by the jackknife


def mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over tasks and half the width of its 95 % confidence interval.

      mean ± 1.96 s / √tasks,   s² = Σ_i (x_i - mean)² / (tasks - 1)

    Args:
      values: `float[tasks, ...]`.

    Returns:
      Both, of float64, without the axis of the tasks.

    >>> values, interval = mean(np.array([0.5, 1.0, 0.75, 0.75]))
    >>> print(f"{values:.2f} ± {interval:.4f}")
    0.75 ± 0.2000
    """
    values = np.asarray(values, float)
    with np.errstate(invalid="ignore"):  # an adaptation that diverges is a result too
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0), Z95 * error


def jackknife(without: np.ndarray) -> np.ndarray:
    """Half the width of a 95 % confidence interval, by leaving out one task at a time.

      1.96 √( (tasks - 1)/tasks Σ_i (v_i - mean v)² ),   v_i: the value without task i

    For a mean over tasks, this is the interval of `mean`. It holds for smooth functions
    of sums over tasks, such as ratios, and for U-statistics, such as the area under
    the ROC curve; not for quantiles.

    Args:
      without: v, `float[tasks, ...]`.

    Returns:
      The half-width, float64, without the axis of the tasks.

    >>> values = np.array([0.5, 1.0, 0.75, 0.75])
    >>> print(f"{jackknife((values.sum() - values) / 3):.4f}")
    0.2000

    Source: Efron and Stein, "The Jackknife Estimate of Variance", Annals of Statistics,
    1981.
    """
    without = np.asarray(without, float)
    with np.errstate(invalid="ignore"):
        squares = np.sum((without - without.mean(axis=0)) ** 2, axis=0)
    return Z95 * np.sqrt((len(without) - 1) / len(without) * squares)


def enough_tasks(sizes: np.ndarray) -> np.ndarray:
    """Whether each class is in enough tasks for an interval by the jackknife.

      (Σ_i u_i)² / Σ_i u_i² ≥ 10,   u_i: the size of the class in task i

    the effective number of tasks. A class that is in no task has no part in it.

    Args:
      sizes: u, `int[tasks, ..., classes]`.

    Returns:
      `bool[...]`, whether all classes are.

    >>> enough_tasks(np.ones((10, 2), int)).item(), enough_tasks(np.eye(10)[:2]).item()
    (True, False)

    Source: Kish, "Survey Sampling", 1965.
    """
    sizes = np.asarray(sizes, float)
    squares = LEAST_TASKS * (sizes**2).sum(axis=0)
    return (sizes.sum(axis=0) ** 2 >= squares).all(axis=-1)
