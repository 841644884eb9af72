"""Each operation against lax, in value, gradient and second derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from metajax.ops import batch_norm, conv2d, max_pool
from tests.helpers import KEY, relative


def lax_conv(x, kernel, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=numbers
    )


def lax_pool(x):
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 7, 6, 3), (1, 4, 4, 1), (3, 1, 2, 2)])
@pytest.mark.parametrize("window", [(3, 3), (1, 1), (2, 5)])
def test_convolution_equals_lax(float64, stride, shape, window):
    x = jax.random.normal(KEY, shape, jnp.float64)
    kernel = jax.random.normal(KEY, (*window, shape[-1], 4), jnp.float64)
    ours, theirs = conv2d(x, kernel, stride=stride), lax_conv(x, kernel, stride)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_convolution_derivatives_under_vmap(float64, stride, axes):
    x = jax.random.normal(KEY, (3, 2, 5, 4, 2), jnp.float64)
    kernel = jax.random.normal(KEY, (3, 3, 3, 2, 2), jnp.float64)
    x, kernel = x[0] if axes[0] is None else x, kernel[0] if axes[1] is None else kernel

    def second(conv):
        value = lambda x, k: jnp.sum(jnp.sin(conv(x, k)))  # noqa: E731
        gradient = jax.grad(value, (0, 1))

        def norm(x, k):
            return sum(jnp.sum(jnp.cos(g)) for g in gradient(x, k))

        both = lambda x, k: (gradient(x, k), jax.grad(norm, (0, 1))(x, k))  # noqa: E731
        return jax.jit(jax.vmap(both, axes))(x, kernel)

    ours = second(lambda x, k: conv2d(x, k, stride=stride))
    theirs = second(lambda x, k: lax_conv(x, k, stride))
    assert relative(ours, theirs) < 1e-12


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 7, 5, 1)])
def test_pooling_equals_lax(float64, shape):
    x = jax.random.normal(KEY, shape, jnp.float64)
    np.testing.assert_array_equal(max_pool(x), lax_pool(x))
    ours, theirs = (
        jax.grad(lambda x: jnp.sum(f(x) ** 2))(x) for f in (max_pool, lax_pool)
    )
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 4, 3)])
def test_batch_norm(float64, shape):
    x = 3.0 + 2.0 * jax.random.normal(KEY, shape, jnp.float64)
    scale, offset = jnp.array([1.0, 2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    axes = tuple(range(len(shape) - 1))
    y = batch_norm(x, scale, offset, eps=0.0)
    np.testing.assert_allclose(y.mean(axes), offset, atol=1e-12)
    np.testing.assert_allclose(y.std(axes), scale)
    check_grads(batch_norm, (x, scale, offset), order=2, rtol=1e-4, atol=1e-4)
