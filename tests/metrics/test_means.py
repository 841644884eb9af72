import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import metajax as mj
from metajax import metrics
from metajax.types import Padded


def test_a_metric_stands_where_a_loss_does():
    outputs, labels = jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 0])
    assert float(mj.accuracy(outputs, labels)) == 0.5
    assert float(jax.jit(mj.accuracy)(outputs, labels)) == 0.5
    padded = Padded(labels, jnp.array([True, False]))
    assert float(mj.accuracy(outputs, padded)) == 1.0


def test_what_pools_its_tasks_has_no_number_of_one():
    metric = metrics.mean_iou(2)
    assert metric.logged() == {} and list(mj.accuracy.logged()) == ["accuracy"]
    with pytest.raises(mj.InputError, match="mean_iou pools its tasks"):
        metric(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32))


def test_equal_metrics_are_equal():
    """So that the second evaluation by a loss, or by a factory, compiles nothing."""
    assert metrics.as_metric(mj.mse) == metrics.mse == mj.mean_of(mj.mse)
    assert hash(metrics.mean_iou(3)) == hash(metrics.mean_iou(3))
    assert metrics.mean_iou(3) != metrics.mean_iou(3, ignore=255)
    assert metrics.as_metric(mj.losses.accuracy) is mj.accuracy
    assert metrics.as_metric(mj.accuracy) is mj.accuracy
    with pytest.raises(mj.InputError, match="got str"):
        metrics.as_metric("accuracy")  # pyright: ignore


def test_directions():
    assert mj.accuracy.better is operator.gt and metrics.mse.better is operator.lt


def test_the_interval_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(0).normal(size=(30, 2))
    value, interval = metrics.mean(values)
    np.testing.assert_allclose(value, values.mean(0))
    np.testing.assert_allclose(interval, 1.959964 * scipy.stats.sem(values))
    without = (values.sum(0) - values) / 29
    np.testing.assert_allclose(metrics.jackknife(without), interval)


def test_diverged_tasks_make_no_number():
    value, interval = metrics.mean(np.array([[1.0], [np.inf], [2.0]]))
    assert np.isinf(value[0]) and np.isnan(interval[0])
