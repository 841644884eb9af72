"""Images shown to a network of other inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.data import ImageStore, converted, image_episodes, stream_episodes
from metajax.data.wrappers.converting import convert_images
from tests.helpers import KEY


def store(channels, size=6):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, size, size, channels))
    return ImageStore(pixels.astype(np.uint8), np.full(4, 3), tuple("abcd"))


@pytest.mark.parametrize("sampler", [image_episodes, stream_episodes])
def test_the_same_tasks_in_another_shape(sampler):
    episodes = sampler(store(3), 2, 1, 2)
    shown = jax.jit(converted(episodes, (3, 3, 1), inverted=True), static_argnums=1)
    result, before = shown(KEY, 2), jax.jit(episodes, static_argnums=1)(KEY, 2)
    for side, own in zip(result, before):
        grey = np.asarray(own.inputs) @ np.array([0.299, 0.587, 0.114], np.float32)
        # Half the size: each pixel is the mean of a triangle over what it covers.
        weights = np.zeros((3, 6))
        for k in range(3):
            near = np.maximum(0, 1 - abs(np.arange(6) - (2 * k + 0.5)) / 2)
            weights[k] = near / near.sum()
        small = np.einsum("ih,...hw,jw->...ij", weights, grey, weights)
        np.testing.assert_allclose(side.inputs[..., 0], 1 - small, atol=1e-6)
        np.testing.assert_array_equal(side.targets, own.targets)


def test_grey_images_are_coloured_alike():
    images = jax.random.uniform(KEY, (2, 4, 4, 1))
    coloured = convert_images(images, (4, 4, 3))
    np.testing.assert_array_equal(coloured, jnp.repeat(images, 3, -1))
    np.testing.assert_allclose(convert_images(coloured, (4, 4, 1)), images, rtol=1e-6)


def test_what_cannot_be_made():
    episodes = image_episodes(store(3), 2, 1, 1)
    with pytest.raises(mj.InputError, match=r"shape must be \(height, width, chan"):
        converted(episodes, (3, 3))
    with pytest.raises(mj.InputError, match="width must be a whole number of at least"):
        converted(episodes, (3, 0, 1))
    with pytest.raises(mj.InputError, match="3 channels cannot become images of 2"):
        convert_images(jnp.zeros((1, 4, 4, 3)), (4, 4, 2))
