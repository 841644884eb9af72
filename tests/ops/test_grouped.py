"""Convolutions of groups of channels, against one convolution a group."""

import jax
import jax.numpy as jnp
import pytest

import metajax as mj
from metajax.models.backbones.layers import convolve, embed_patches
from metajax.ops.grouped import grouped_conv2d
from tests.helpers import KEY, relative


@pytest.mark.parametrize("groups, outputs", [(2, 6), (4, 4)])
def test_each_group_by_itself(float64, groups, outputs):
    keys = jax.random.split(KEY)
    x = jax.random.normal(keys[0], (2, 5, 6, 4), jnp.float64)
    kernel = jax.random.normal(keys[1], (3, 3, 4 // groups, outputs), jnp.float64)
    parts = [
        mj.ops.conv2d(a, b, stride=2)
        for a, b in zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1))
    ]
    together = grouped_conv2d(x, kernel, stride=2)
    assert relative(together, jnp.concatenate(parts, -1)) < 1e-12


@pytest.mark.parametrize("shape", [(3, 3, 3, 4), (3, 3, 2, 5), (3, 3, 8, 4), (3, 1, 4)])
def test_refuses(shape):
    with pytest.raises(mj.InputError, match="as many features for each group"):
        grouped_conv2d(jnp.ones((1, 5, 5, 4)), jnp.ones(shape))


@pytest.mark.parametrize("side", [1, 2, 4])
def test_patches_are_a_convolution(side):
    x = jax.random.normal(KEY, (2, 9, 8, 3))
    kernel = jax.random.normal(KEY, (side, side, 3, 5))
    weights = {"kernel": kernel, "bias": jnp.arange(5.0)}
    expected = mj.ops.conv2d(x, kernel, stride=side, padding="VALID")
    expected = expected + weights["bias"].reshape(1, 1, 1, 5)
    assert relative(embed_patches(weights, x), expected) < 1e-5
    if side == 1:
        assert relative(convolve(weights, x), expected) < 1e-5
