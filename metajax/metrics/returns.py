"""Returns of reinforcement learning."""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax.metrics.intervals import mean
from metajax.metrics.metric import Metric
from metajax.types import Array


def episode_return(steps: Any, targets: Any = None) -> Array:
    """The undiscounted return of an episode, averaged over those of a task.

    Args:
      steps: `metajax.rl.Steps`, `[episodes, horizon, ...]`.
      targets: nothing.
    """
    return jnp.mean(jnp.sum(steps.reward, -1))


def _cumulated(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return mean(np.cumsum(np.asarray(records, float), axis=1))


average_return = Metric("return", episode_return, mean, operator.gt, "{:.3f}".format)
"""The return of one episode, after each step of adaptation."""

total_return = Metric(
    "total_return", episode_return, _cumulated, operator.gt, "{:.3f}".format
)
"""The return of all episodes of a trial up to each: entry k is that of the first k + 1,
where adaptation is to play an episode."""
