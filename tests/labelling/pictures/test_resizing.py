"""Resizing in a program, held to Pillow's."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from metajax.data.pictures.decoding import Pixels
from metajax.data.pictures.fitting import Fit, resize
from metajax.errors import InputError
from metajax.labelling.pictures.resizing import to_pixels

SHAPES = (50, 73), (41, 45), (20, 90)


def passes(picture, size, height_first):
    """One side after the other, in whichever order this version of Pillow has."""
    (height, width), first = size, list(picture.size)
    first[height_first] = size[1 - height_first]
    between = picture.resize((first[0], first[1]), Image.Resampling.LANCZOS)
    return resize(between, (height, width)).astype(int)


@pytest.fixture(scope="module")
def program():
    """Of symbolic sides, as it is exported: one trace for all sizes."""
    shape = jax.export.symbolic_shape("height, width, 3")
    picture = jax.ShapeDtypeStruct(shape, jnp.uint8)

    def both(x):
        return [to_pixels(x, Pixels((28, 20), mode)) for mode in ("L", "RGB")]

    return jax.export.export(jax.jit(both))(picture)


@pytest.mark.parametrize(
    "shape, height_first",
    [((97, 70), False), ((9, 5), False), ((1, 1), False), ((200, 41), True)],
)
def test_pixels_are_pillows(program, shape, height_first):
    """Even of noise in black and white, which rounds and clips most."""
    noise = np.random.default_rng(0).integers(0, 2, (*shape, 3))
    pixels = np.asarray(255 * noise, np.uint8)
    picture = Image.fromarray(pixels)
    for result, mode in zip(program.call(pixels), ("L", "RGB")):
        theirs = passes(picture.convert(mode), (28, 20), height_first)
        assert result.dtype == jnp.uint8 and result.shape == theirs.shape
        assert np.abs(np.asarray(result, int) - theirs).max() <= 1


def test_pictures_of_the_size_are_left_as_they_are(program):
    pixels = np.arange(28 * 20 * 3, dtype=np.uint8).reshape(28, 20, 3)
    grey, colour = program.call(pixels)
    np.testing.assert_array_equal(colour, pixels)
    np.testing.assert_array_equal(grey[..., 0], Image.fromarray(pixels).convert("L"))


@pytest.mark.parametrize(
    "size, fit, shapes",
    [
        ((32, 32), Fit(0.9, "bicubic"), SHAPES),
        ((24, 32), Fit(0.875, "bilinear"), SHAPES),
        ((32, 32), Fit(0.95, "bicubic", squashed=True), SHAPES),
        ((28, 20), Fit(0.95, "bicubic"), [(30, 20)]),  # to 31.5 rows, rounded to 32
    ],
)
def test_pictures_fit_as_those_of_a_backbone(size, fit, shapes):
    program = jax.jit(lambda x: to_pixels(x, Pixels(size, "RGB", None, fit)))
    for shape in shapes:  # of which Pillow resizes the width first, in every version
        noise = np.random.default_rng(0).integers(0, 2, (*shape, 3))
        pixels = np.asarray(255 * noise, np.uint8)
        theirs = resize(Image.fromarray(pixels), size, fit).astype(int)
        assert np.abs(np.asarray(program(pixels), int) - theirs).max() <= 1


def test_other_filters_are_refused():
    fit = Fit(0.9, "nearest")
    with pytest.raises(InputError, match="'nearest': expected one of lanczos, bicubic"):
        to_pixels(jnp.zeros((9, 9, 3), jnp.uint8), Pixels((4, 4), "RGB", None, fit))
