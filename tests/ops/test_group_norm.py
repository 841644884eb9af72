"""Group norm against its formula, and patches of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metajax.ops import group_norm
from metajax.ops.patches import from_patches, to_patches
from tests.helpers import KEY, relative

EPS = 1e-3


def arguments(shape=(2, 3, 4, 6), dtype=jnp.float64):
    keys = jax.random.split(KEY, 3)
    x = 3.0 + 2.0 * jax.random.normal(keys[0], shape, dtype)
    scale, offset = (jax.random.normal(k, shape[-1:], dtype) for k in keys[1:])
    return x, scale, offset


def plain(x, scale, offset, groups):
    """By loops over examples and groups, in NumPy."""
    y, width = np.zeros_like(x), x.shape[-1] // groups
    for i in range(len(x)):
        for g in range(groups):
            channels = slice(g * width, (g + 1) * width)
            part = x[i, ..., channels]
            y[i, ..., channels] = (part - part.mean()) / np.sqrt(part.var() + EPS)
    return y * scale + offset


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (3, 5, 6), (4, 6)])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_is_its_formula(float64, shape, groups):
    values = arguments(shape)
    expected = plain(*map(np.asarray, values), groups)
    ours = group_norm(*values, groups, eps=EPS)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_one_group_is_layer_norm(float64):
    x, scale, offset = arguments()
    flat = x.reshape(2, -1)
    layer = jax.nn.standardize(flat, epsilon=EPS).reshape(x.shape)
    expected = np.asarray(layer) * np.asarray(scale) + np.asarray(offset)
    ours = group_norm(x, scale, offset, 1, eps=EPS)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_derivatives(float64):
    values = arguments((2, 3, 4))
    check_grads(
        jax.jit(lambda *values: group_norm(*values, 2, eps=EPS)),
        values,
        order=2,
        rtol=1e-4,
        atol=1e-4,
    )


def test_examples_are_independent(float64):
    x, scale, offset = arguments()
    together = group_norm(x, scale, offset, 3)
    alone = group_norm(x[1:], scale, offset, 3)
    np.testing.assert_array_equal(together[1:], alone)
    assert group_norm(x[:0], scale, offset, 3).shape == (0, 3, 4, 6)


def test_of_bfloat16_its_moments_are_of_float32():
    values = arguments((2, 9, 9, 4), jnp.float32)
    half = tuple(x.astype(jnp.bfloat16) for x in values)
    ours = group_norm(*half, 2)
    assert ours.dtype == jnp.bfloat16
    wide = group_norm(*(x.astype(jnp.float32) for x in half), 2)
    assert relative(ours.astype(jnp.float32), wide) < 4e-3, "rounded once"


def test_of_values_far_from_zero_or_all_the_same():
    x, scale, offset = arguments(dtype=jnp.float32)
    near, far = (group_norm(x + shift, scale, offset, 2) for shift in (0.0, 4096.0))
    np.testing.assert_allclose(far, near, atol=1e-2)
    flat = group_norm(jnp.full((2, 3, 4, 6), 1e4), scale, offset, 2)
    np.testing.assert_allclose(flat, jnp.broadcast_to(offset, flat.shape), atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_patches_and_back(side):
    x = jnp.arange(2 * 6 * 12 * 3).reshape(2, 6, 12, 3)
    patches = to_patches(x, side)
    assert patches.shape == (2, 6 // side, 12 // side, side**2 * 3)
    np.testing.assert_array_equal(from_patches(patches, side), x)
    np.testing.assert_array_equal(
        patches[1, 1, 2], x[1, side : 2 * side, 2 * side : 3 * side].ravel()
    )
