"""Metrics of fields against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.metrics import label_accuracy, psnr, rmse, signal_accuracy
from metajax.types import Padded
from tests.helpers import KEY


@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_it_is_the_mean_of_each_images_ratio(peak):
    metric = psnr(peak)
    outputs, targets = peak * jax.random.uniform(KEY, (2, 30, 12, 3))
    records = jax.vmap(metric.of_task)(outputs, targets)
    errors = ((np.asarray(outputs) - np.asarray(targets)) ** 2).mean((1, 2))
    ratios = 10 * np.log10(peak**2 / errors)
    np.testing.assert_allclose(records, ratios, rtol=1e-5)
    value, interval = metric.finish(np.asarray(records)[:, None])
    assert value[0] == pytest.approx(ratios.mean(), rel=1e-5)
    half = 1.96 * ratios.std(ddof=1) / np.sqrt(30)
    assert interval[0] == pytest.approx(half, rel=1e-3)
    assert value[0] > 10 * np.log10(peak**2 / errors.mean())
    assert metric.better(2.0, 1.0) and metric.unit == "dB"
    assert metric == psnr(peak) and metric.logged() == {"psnr": metric}


def test_padding_does_not_count():
    outputs, targets = jax.random.uniform(KEY, (2, 6, 1))
    present = jnp.arange(6) < 4
    padded = psnr()(outputs, Padded(targets, present))
    np.testing.assert_allclose(padded, psnr()(outputs[:4], targets[:4]), rtol=1e-6)


@pytest.mark.parametrize("peak", [1.0, 255.0])
def test_an_image_without_error_leaves_the_mean_finite(peak):
    targets = peak * jnp.ones((3, 4, 1))
    outputs = targets.at[0].mul(0.9)
    records = np.asarray(jax.vmap(psnr(peak))(outputs, targets))
    np.testing.assert_allclose(records, [20, 120, 120], rtol=1e-5)
    assert np.isfinite(psnr(peak).finish(records[:, None])).all()


def test_the_root_of_each_tasks_error():
    outputs = jnp.array([[3.0], [4.0], [9.0]])
    targets = Padded(jnp.zeros((3, 1)), jnp.arange(3) < 2)
    assert float(rmse(outputs, targets)) == pytest.approx(np.sqrt(12.5))
    assert rmse.better(1.0, 2.0)


def test_bad_input_is_refused():
    with pytest.raises(mj.InputError, match="peak must be a positive number, got 0"):
        psnr(0)
    with pytest.raises(mj.InputError, match="shape"):
        psnr()(jnp.zeros((3, 1)), jnp.zeros(3))


def test_the_accuracy_of_a_labelled_signal():
    outputs = mj.LabelledValues(jnp.zeros((2, 1)), jnp.array([[0.0, 1.0], [2.0, 1.0]]))
    targets = mj.LabelledValues(jnp.zeros((2, 1)), jnp.array([1, 1]))
    assert float(label_accuracy(outputs, targets)) == 0.5
    numbered = targets._replace(signals=jnp.array([7, 7]))
    assert [float(x) for x in signal_accuracy.of_task(outputs, numbered)] == [0.5, 7]
    assert float(signal_accuracy(outputs, targets)) == 0.5, "of one task"
    with pytest.raises(mj.InputError, match="needs the number of each signal"):
        signal_accuracy.of_task(outputs, targets)


def test_a_signal_that_is_drawn_again_counts_once():
    """Three signals, of which one is drawn 98 times, are three and not a hundred."""
    numbers = np.array([5] * 98 + [2, 9])
    right = np.array([1.0] * 98 + [0.0, 0.5])[:, None].repeat(2, 1)
    records = right, numbers[:, None].repeat(2, 1)
    value, interval = signal_accuracy.finish(records)
    np.testing.assert_allclose(value, 0.5)
    np.testing.assert_allclose(interval, 1.959964 * 0.5 / np.sqrt(3), rtol=1e-6)
    alone, unknown = signal_accuracy.finish((right[:98], records[1][:98]))
    assert (alone == 1).all() and np.isnan(unknown).all()
