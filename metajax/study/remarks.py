"""What stands out in a result, in words, so that nobody must read it off a figure."""

from collections.abc import Callable
from functools import reduce

import numpy as np

from metajax.study.curvature import Sensitivity, Spectrum
from metajax.study.landscape import HeatMap
from metajax.study.noise import Noise
from metajax.study.task_map import TaskMap
from metajax.study.trajectories import Trajectories

MOST = 0.1  # the share of tasks that may be unstable at the rate proposed
EXPLOSION = 10.0  # growth of the meta-gradient above which it is mentioned


def divergence(result: Trajectories) -> str:
    """How many tasks end with a higher loss than they began with, or an infinite one.

    >>> from metajax.study.named import Named
    >>> losses = Named(np.array([[1.0, 0.5], [1.0, 3.0]]), ("task", "step"))
    >>> none = Named(np.ones((2, 2, 1)), ("task", "step", "layer"))
    >>> divergence(Trajectories(("all",), *[losses] * 4, *[none] * 4))
    'In 1 of 2 tasks the support loss is higher after 1 step than before: ...'
    """
    losses = result.support_loss.values
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
            f"after {_count(steps)}: the figures leave those tasks out."
        )
    return " ".join(said)


def useful_batch(result: Noise, tasks: int) -> str:
    """The meta-batch at which noise equals signal, beside the one that is used.

    >>> from metajax.study.named import Named
    >>> blank, useful = Named(np.zeros(0), ()), Named(np.array([7.0, 26.4]), ("layer",))
    >>> noise = Noise(("body", "all"), (1,), *[blank] * 4, useful, *[blank] * 2)
    >>> useful_batch(noise, 8)
    'Noise equals signal at a meta-batch of about 26.4 tasks; training has 8.'
    """
    useful = float(result.useful.values[-1])
    if np.isnan(useful):
        return ""
    if np.isinf(useful):
        return "So few tasks show no signal: study more of them by --tasks."
    return (
        f"Noise equals signal at a meta-batch of about {useful:.3g} tasks; training "
        f"has {tasks}."
    )


def instability(result: Spectrum, rate: float) -> str:
    """Whether plain gradient steps diverge at a rate, and a rate at which they do not.

    >>> from metajax.study.named import Named
    >>> stable = Named(np.array([[0.1, 0.2], [0.2, 0.4]]), ("task", "step"))
    >>> blank = [Named(np.zeros(0), ())] * 3
    >>> result = Spectrum((0, 5), 9, *blank, stable, *blank[:2])
    >>> instability(result, 0.15)
    'The inner rate 0.15 is above 2 / λ_max in 1 of 2 tasks ...'
    >>> instability(result, 0.05)
    ''
    """
    # `fmin` passes over NaN: a task that diverged counts by where it began.
    lowest = np.fmin.reduce(result.stable_rate.values, axis=1)
    lowest = lowest[~np.isnan(lowest)]
    unstable = np.sum(lowest < rate)
    if not unstable:
        return ""
    bound = np.quantile(lowest, MOST, method="inverted_cdf")
    places = " and ".join(str(k) for k in result.steps)
    return (
        f"The inner rate {rate:.3g} is above 2 / λ_max in {unstable} of {len(lowest)} "
        f"tasks (after {places} steps): there, steps diverge along the sharpest "
        "direction, and the meta-gradient may too. Nine tasks of ten would be stable "
        f"at a rate of {bound:.3g}, judged by their largest eigenvalue; along "
        "directions of negative curvature steps diverge at every rate."
    )


def explosion(result: Sensitivity) -> str:
    """Whether the meta-gradient grows more than tenfold on its way back.

    >>> from metajax.study.named import Named
    >>> explosion(Sensitivity(Named(np.array([[30.0, 2.0]]), ("task", "rank"))))
    "In 1 of 1 tasks the meta-gradient can grow more than tenfold ..."
    """
    largest = result.singular_values.values[:, 0]
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


def best_settings(result: HeatMap, better: Callable[[float, float], bool]) -> str:
    """The best inner rate and number of steps of those tried, by `Metric.better`.

    >>> from metajax.study.named import Named
    >>> import operator
    >>> score = Named(np.array([[[0.2, 0.4], [0.2, 0.9]]]), ("task", "rate", "step"))
    >>> best_settings(HeatMap(np.array([0.1, 0.2]), score), operator.gt)
    'The best mean score, 0.9, is at rate 0.2 and 1 step.'
    """
    mean = result.score.mean("task").values
    if not np.isfinite(mean).any():
        return ""
    tried = [(float(mean[at]), at) for at in np.ndindex(mean.shape)]
    tried = [(score, at) for score, at in tried if not np.isnan(score)]
    best, (row, steps) = reduce(lambda a, b: b if better(b[0], a[0]) else a, tried)
    return (
        f"The best mean score, {best:.3g}, is at rate "
        f"{result.rates[row]:.3g} and {_count(int(steps))}."
    )


def nearness(result: TaskMap) -> str:
    """How often two tasks of one group are nearer than two of different ones.

    >>> from metajax.study.named import Named
    >>> blank, shares = Named(np.zeros(0), ()), np.ones(2)
    >>> result = TaskMap(("a", "a", "b"), blank, blank, shares, 0.75, np.nan)
    >>> nearness(result)
    'Two tasks of one group are nearer than two of different ones with ...'
    >>> nearness(result._replace(groups=("a", "a", "a"), nearer=np.nan))
    ''
    """
    if not np.isfinite(result.nearer):
        return ""
    width = f" ± {result.interval:.2f}" if np.isfinite(result.interval) else ""
    return (
        "Two tasks of one group are nearer than two of different ones with probability "
        f"{result.nearer:.2f}{width}; it is 0.5 if groups do not matter."
    )


def _count(steps: int) -> str:
    return f"{steps} step" + "s" * (steps != 1)
