"""Operations on 3x3 windows against those of jax.lax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from metajax.ops.windows import max_window, mean_window
from tests.helpers import KEY

PADS = ((0, 0), (1, 1), (1, 1), (0, 0))
WINDOW = (1, 3, 3, 1)


@pytest.fixture
def images(float64):
    return jax.random.normal(KEY, (2, 5, 6, 3))


@pytest.mark.parametrize("stride", [1, 2])
def test_pooling(images, stride):
    strides = (1, stride, stride, 1)
    highest = lax.reduce_window(images, -jnp.inf, lax.max, WINDOW, strides, PADS)
    assert jnp.array_equal(max_window(images, stride=stride), highest)
    total, count = (
        lax.reduce_window(x, 0.0, lax.add, WINDOW, strides, PADS)
        for x in (images, jnp.ones_like(images))
    )
    ours = mean_window(images, stride=stride)
    np.testing.assert_allclose(ours, total / count, atol=1e-12)


def test_the_first_of_equal_values_gets_the_gradient():
    flat = jnp.zeros((1, 3, 3, 1))
    slope = jax.grad(lambda x: max_window(x)[0, 1, 1, 0])(flat)
    assert slope[0, :, :, 0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_pooling_keeps_nan(images):
    images = images.at[0, 2, 3, 1].set(jnp.nan)
    expected = lax.reduce_window(images, -jnp.inf, lax.max, WINDOW, (1, 1, 1, 1), PADS)
    assert jnp.isnan(expected).sum() == 9
    assert jnp.array_equal(max_window(images), expected, equal_nan=True)


@pytest.mark.parametrize("height, width", [(5, 8), (1, 2), (7, 7)])
def test_max_pool_is_that_of_a_window(height, width):
    x = jax.random.normal(KEY, (2, height, width, 3))
    pads = (0, 0), (1, 1), (1, 1), (0, 0)
    window, strides = (1, 3, 3, 1), (1, 2, 2, 1)
    expected = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)
    assert (max_window(x, stride=2) == expected).all()
