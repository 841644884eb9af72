"""The pyramid against a plain loop, and ResNet-12's maps against its body."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.models import centre_head, convolution, feature_pyramid, resnet12_maps
from tests.helpers import KEY

WIDTHS = (2, 3, 3, 4)
CHANNELS = (2, 3)  # of two maps
SHAPES = [(4, 4), (2, 2)], [(5, 7), (2, 3)], [(5, 7), (3, 4)]


def fixed_maps(shapes, dtype=jnp.float64):
    """A backbone that returns the same maps for any images."""
    maps = tuple(
        jax.random.normal(jax.random.key(i), (2, *shape, width), dtype)
        for i, (shape, width) in enumerate(zip(shapes, CHANNELS))
    )
    return maps, mj.Model(lambda key: {}, lambda params, inputs: maps)


def conv(x, weights):
    return jax.lax.conv_general_dilated(
        x, weights["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ) + weights["bias"].reshape(1, 1, 1, -1)


@pytest.mark.parametrize("shapes", SHAPES)
def test_equals_a_loop(float64, shapes):
    maps, backbone = fixed_maps(shapes)
    model = feature_pyramid(backbone, CHANNELS, 3, dtype=jnp.float64)
    params = model.init(KEY)
    fine, coarse, last = params["head"]
    low, total = (
        np.array(conv(*pair)) for pair in ((maps[1], coarse), (maps[0], fine))
    )
    rows, columns = shapes[0]
    for i in range(rows):
        for j in range(columns):
            row, column = min(i // 2, shapes[1][0] - 1), min(j // 2, shapes[1][1] - 1)
            total[:, i, j] += low[:, row, column]
    ours = model.apply(params, jnp.zeros((2, 8, 8, 1)))
    np.testing.assert_allclose(ours, conv(total, last), rtol=1e-9, atol=1e-12)


def test_finer_maps_are_left_out(float64):
    maps, backbone = fixed_maps(SHAPES[0])
    model = feature_pyramid(backbone, CHANNELS, 3, finest=1, dtype=jnp.float64)
    params = model.init(KEY)
    coarse, last = params["head"]
    expected = conv(conv(maps[1], coarse), last)
    np.testing.assert_allclose(
        model.apply(params, jnp.zeros((2, 8, 8, 1))), expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("norm", ["transductive", "support"])
def test_the_maps_of_resnet12_are_those_of_its_body(norm):
    network = mj.resnet12(3, WIDTHS, "flat", image_shape=(20, 17, 1), norm=norm)
    assert network.parts
    body, _ = network.parts
    backbone = resnet12_maps(WIDTHS, channels=1, norm=norm)
    x = jax.random.normal(KEY, (2, 20, 17, 1))
    params = body.init(KEY)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params, backbone.init(KEY)))
    settled = backbone.settle(params, x)
    maps = backbone.apply(settled, x)
    np.testing.assert_array_equal(maps[-1], body.apply(body.settle(params, x), x))
    assert [m.shape[1:] for m in maps] == [(10, 8, 2), (5, 4, 3), (2, 2, 3), (1, 1, 4)]


def test_a_detector_of_a_pyramid_settles_on_the_support_set():
    backbone = resnet12_maps(WIDTHS, channels=1, norm="support")
    body = feature_pyramid(backbone, WIDTHS, 4, finest=1)
    detector = mj.headed(body, centre_head(4, 2, 4))
    params, x = detector.init(KEY), jax.random.normal(KEY, (3, 20, 16, 1))
    settled = detector.settle(params, x)
    together, alone = detector.apply(settled, x), detector.apply(settled, x[:1])
    assert together.heat.shape == (3, 5, 4, 2) and together.size.shape == (3, 5, 4, 2)
    for all_of_them, one in zip(together, alone):
        np.testing.assert_allclose(all_of_them[:1], one, rtol=1e-4, atol=1e-5)


def test_a_head_starts_with_few_objects():
    head = centre_head(4, 2, 8)
    maps = head.apply(head.init(KEY), jnp.zeros((1, 3, 3, 4)))
    np.testing.assert_allclose(jax.nn.sigmoid(maps.heat), 0.1, atol=1e-3)
    assert float(jnp.abs(maps.size).max()) == 0


def test_refuses():
    _, backbone = fixed_maps([(8, 8), (2, 2)], jnp.float32)
    images = jnp.zeros((2, 8, 8, 1))
    with pytest.raises(mj.InputError, match=r"half the rows .* got \(8, 8\) and then"):
        model = feature_pyramid(backbone, CHANNELS, 3)
        model.apply(model.init(KEY), images)
    with pytest.raises(mj.InputError, match="built for a backbone of 3 maps, .* got 2"):
        model = feature_pyramid(backbone, (2, 3, 4), 3)
        model.apply(model.init(KEY), images)
    with pytest.raises(mj.InputError, match="finest must be at most 1, got 2"):
        feature_pyramid(backbone, CHANNELS, finest=2)
    with pytest.raises(mj.InputError, match=r"takes maps \[n, height, width, 3\], got"):
        head = centre_head(3, 2)
        head.apply(head.init(KEY), backbone.apply({}, images))
    with pytest.raises(mj.InputError, match="side must be a whole number"):
        convolution(0, 1, 1)
    maps = resnet12_maps(WIDTHS, channels=1)
    with pytest.raises(mj.InputError, match=r"images \[n, 16, 16, 1\], got"):
        maps.apply(maps.init(KEY), jnp.zeros((1, 16, 16, 3)))
    with pytest.raises(mj.InputError, match=r"at least 16x16, got \(8, 16, 1\)"):
        maps.apply(maps.init(KEY), jnp.zeros((1, 8, 16, 1)))
