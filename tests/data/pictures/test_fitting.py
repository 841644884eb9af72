"""How pictures of any size become those of a network."""

import numpy as np
import pytest
from PIL import Image

from metajax.data.pictures.fitting import STRETCHED, Fit, check_interpolation, resize
from metajax.errors import InputError

BICUBIC = Image.Resampling.BICUBIC


def picture(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "shape, whole, corner",
    [((50, 71), (35, 49), (2, 8)), ((60, 40), (52, 35), (10, 2))],
)
def test_the_middle_is_cut_out_of_a_picture_that_keeps_its_proportions(
    shape, whole, corner
):
    image = picture(*shape)
    resized = np.asarray(image.resize(whole[::-1], BICUBIC))
    top, left = corner
    expected = resized[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(
        resize(image, (32, 32), Fit(0.9, "bicubic")), expected
    )


def test_proportions_are_lost_where_asked():
    image = picture(50, 70)
    squashed = resize(image, (32, 32), Fit(1.0, "bicubic", squashed=True))
    np.testing.assert_array_equal(squashed, image.resize((32, 32), BICUBIC))
    whole = image.resize((16, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(resize(image, (8, 16), STRETCHED), whole)


def test_a_size_that_is_not_square_is_covered():
    assert resize(picture(20, 90), (24, 32), Fit(0.9, "bilinear")).shape == (24, 32, 3)


def test_only_pillows_filters_are_known():
    with pytest.raises(InputError, match="'area': expected one of nearest, "):
        check_interpolation("area")
