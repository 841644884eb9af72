"""What stands out in a result, in words: nobody should have to find it in a figure."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from metajax.study.curvature import Sensitivity, Spectrum
from metajax.study.landscape import HeatMap
from metajax.study.trajectories import Trajectories

MOST = 0.1  # the share of tasks that a "stable" rate leaves out
EXPLOSION = 10.0  # growth of the meta-gradient that is worth a word


def divergence(found: Trajectories) -> str:
    """How many tasks end worse than they began, or nowhere.

    >>> from metajax.study.named import Named
    >>> losses = Named(np.array([[1.0, 0.5], [1.0, 3.0]]), ("task", "step"))
    >>> none = Named(np.ones((2, 2, 1)), ("task", "step", "layer"))
    >>> divergence(Trajectories(("all",), *[losses] * 4, *[none] * 4))
    'In 1 of 2 tasks the support loss is higher after 1 step than before: ...'
    """
    losses = found.support_loss.values
    lost = ~np.isfinite(losses[:, -1])
    worse = ~lost & (losses[:, -1] > losses[:, 0])
    tasks, steps = len(losses), losses.shape[1] - 1
    said = []
    if worse.any():
        said.append(
            f"In {worse.sum()} of {tasks} tasks the support loss is higher after "
            f"{_count(steps)} than before: lower the inner rate or take fewer steps."
        )
    if lost.any():
        said.append(
            f"In {lost.sum()} of {tasks} tasks the support loss is no longer finite "
            f"after {_count(steps)}: the figures leave those out."
        )
    return " ".join(said)


def instability(found: Spectrum, rate: float) -> str:
    """Whether plain gradient steps of a rate grow, and which rate would not.

    >>> from metajax.study.named import Named
    >>> stable = Named(np.array([[0.1, 0.2], [0.2, 0.4]]), ("task", "step"))
    >>> blank = [Named(np.zeros(0), ())] * 3
    >>> found = Spectrum((0, 5), 9, *blank, stable, *blank[:2])
    >>> instability(found, 0.15)
    'The inner rate 0.15 is above 2 / λ_max in 1 of 2 tasks ...'
    >>> instability(found, 0.05)
    ''
    """
    # `fmin` passes over NaN: a task that diverged had a curvature where it began.
    lowest = np.fmin.reduce(found.stable_rate.values, axis=1)
    lowest = lowest[~np.isnan(lowest)]
    unstable = np.sum(lowest < rate)
    if not unstable:
        return ""
    bound = np.quantile(lowest, MOST, method="inverted_cdf")
    places = " and ".join(str(k) for k in found.steps)
    return (
        f"The inner rate {rate:.3g} is above 2 / λ_max in {unstable} of {len(lowest)} "
        f"tasks (after {places} steps): steps grow there along the sharpest direction, "
        "and so may the meta-gradient. Nine tasks of ten would be stable at a rate of "
        f"{bound:.3g}, as far as their largest eigenvalue goes: along directions of "
        "negative curvature every rate grows."
    )


def explosion(found: Sensitivity) -> str:
    """Whether the meta-gradient grows beyond reason on its way back.

    >>> from metajax.study.named import Named
    >>> explosion(Sensitivity(Named(np.array([[30.0, 2.0]]), ("task", "rank"))))
    "In 1 of 1 tasks the meta-gradient can grow more than tenfold ..."
    """
    largest = found.singular_values.values[:, 0]
    tasks, lost = len(largest), ~np.isfinite(largest)
    exploding = np.sum(largest[~lost] > EXPLOSION)
    said = []
    if exploding:
        said.append(
            f"In {exploding} of {tasks} tasks the meta-gradient can grow more than "
            f"tenfold on its way back, up to {largest[~lost].max():.3g}-fold: lower "
            "the inner rate to what the curvature of the support loss allows, take "
            "fewer steps, clip, or let every step's loss count (MAML++)."
        )
    if lost.any():
        said.append(
            f"In {lost.sum()} of {tasks} tasks adaptation has no finite derivative."
        )
    return " ".join(said)


def best_settings(found: HeatMap, better: Callable[[float, float], bool]) -> str:
    """The best inner rate and number of steps of those tried, by `Metric.better`.

    >>> from metajax.study.named import Named
    >>> import operator
    >>> score = Named(np.array([[[0.2, 0.4], [0.2, 0.9]]]), ("task", "rate", "step"))
    >>> best_settings(HeatMap(np.array([0.1, 0.2]), score), operator.gt)
    'The best mean score, 0.9, is at rate 0.2 and 1 step.'
    """
    mean = found.score.mean("task").values
    if not np.isfinite(mean).any():
        return ""
    tried = [(float(mean[at]), at) for at in np.ndindex(mean.shape)]
    tried = [(score, at) for score, at in tried if not np.isnan(score)]
    best, (row, steps) = reduce(lambda a, b: b if better(b[0], a[0]) else a, tried)
    return (
        f"The best mean score, {best:.3g}, is at rate "
        f"{found.rates[row]:.3g} and {_count(steps)}."
    )


def _count(steps: int) -> str:
    return f"{steps} step" + "s" * (steps != 1)
