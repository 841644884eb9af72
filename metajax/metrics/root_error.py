"""The root of the mean squared error, in the unit of the values."""

import operator

import jax.numpy as jnp

from metajax.metrics.intervals import mean
from metajax.metrics.metric import Metric, mse
from metajax.types import Array, PyTree


def _root(outputs: PyTree, targets: PyTree) -> Array:
    return jnp.sqrt(mse(outputs, targets))


rmse: Metric = Metric("rmse", _root, mean, operator.lt)
"""The root of each task's mean squared error, averaged over tasks."""
