"""The peak signal-to-noise ratio against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.metrics import label_accuracy, psnr
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


def test_bad_input_is_refused():
    with pytest.raises(mj.InputError, match="peak must be a positive number, got 0"):
        psnr(0)
    with pytest.raises(mj.InputError, match="shape"):
        psnr()(jnp.zeros((3, 1)), jnp.zeros(3))


def test_the_accuracy_of_a_labelled_signal():
    outputs = mj.LabelledValues(jnp.zeros((2, 1)), jnp.array([[0.0, 1.0], [2.0, 1.0]]))
    targets = mj.LabelledValues(jnp.zeros((2, 1)), jnp.array([1, 1]))
    assert float(label_accuracy(outputs, targets)) == 0.5
