"""How a picture of any size becomes one of a given size."""

import math
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from metajax.errors import InputError
from metajax.types import Array

Count = TypeVar("Count", int, Array)


class Fit(NamedTuple):
    """How a picture becomes one of a given size.

    Attributes:
      crop: the share of a resized picture's short side that is kept, about its centre,
        with the picture's proportions; None for all of it, whatever its proportions.
      interpolation: the name of Pillow's filter.
      squashed: whether the picture gets the result's proportions before it is cropped.

    >>> STRETCHED.crop, STRETCHED.interpolation
    (None, 'lanczos')
    """

    crop: float | None = None
    interpolation: str = "lanczos"
    squashed: bool = False


STRETCHED = Fit()


def check_interpolation(name: str) -> str:
    """The name of a filter, if Pillow has it.

    Raises:
      InputError: if it has not.
    """
    names = [each.name.lower() for each in Image.Resampling]
    if name not in names:
        raise InputError(
            f"pictures cannot be resized by interpolation {name!r}: expected one of "
            f"{', '.join(names)}"
        )
    return name


def resize(
    image: Image.Image, size: tuple[int, int], fit: Fit = STRETCHED
) -> np.ndarray:
    """Resizes an image.

    With a crop, the short side becomes floor(size / crop) pixels and the middle is cut
    out, as timm and torchvision evaluate their networks.

    Args:
      image: of mode "RGB" or "L".
      size: (height, width) of the result in pixels.
      fit: how.

    Returns:
      `uint8[height, width, channels]`.

    >>> wide = Image.new("L", (40, 20))
    >>> resize(wide, (8, 8), Fit(0.8, "bicubic")).shape
    (8, 8, 1)
    """
    height, width = size
    rows, columns = _whole(image, size, fit)
    kind = Image.Resampling[fit.interpolation.upper()]
    image = image.resize((columns, rows), kind)
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    pixels = np.asarray(image).reshape(rows, columns, len(image.getbands()))
    return pixels[top : top + height, left : left + width]


def _whole(image: Image.Image, size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """(height, width) of a picture before its middle is cut out."""
    if fit.crop is None:
        return size
    height, width = (math.floor(side / fit.crop) for side in size)
    if fit.squashed:
        return height, width
    rows, columns = image.height, image.width
    short = min(rows, columns)
    if height == width:  # as torchvision rounds
        return height * rows // short, height * columns // short
    if height * columns >= width * rows:
        return height, rounded_ratio(height * columns, rows)
    return rounded_ratio(width * rows, columns), width


def rounded_ratio(part: Count, whole: Count) -> Count:
    """The integer nearest to part / whole, the even one of two, of positive integers.

    >>> [rounded_ratio(part, 4) for part in (5, 6, 7, 10)]
    [1, 2, 2, 2]
    """
    return (2 * part + whole - 1 + part // whole % 2) // (2 * whole)
