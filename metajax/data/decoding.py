"""Image files to arrays of bytes, many at a time."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metajax.data._depth import read_wide
from metajax.errors import InputError

Mode = Literal["RGB", "L"]

# What a suffix promises is not trusted; these formats run no program of others.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
UNBOUNDED = ("I", "F")  # modes whose numbers may mean any brightness


def decode_classes(
    classes: Sequence[Sequence[Path]],
    size: tuple[int, int],
    mode: Mode,
    bits: int | None = None,
) -> np.ndarray:
    """Decodes the files of each class; see `metajax.data.image_folder`.

    Args:
      classes: the files of each.
      size: (height, width) of the result in pixels.
      mode: "RGB" or "L".
      bits: see `decode`.

    Returns:
      `uint8[classes, per_class, height, width, channels]`, uneven classes padded with
      zeros.

    Raises:
      InputError: if a file cannot be read, or all together do not fit in memory.
    """
    images = _room((len(classes), max(map(len, classes)), *size, len(mode)))
    places = [(i, j) for i, files in enumerate(classes) for j in range(len(files))]

    def fill(place: tuple[int, int]) -> None:
        i, j = place
        images[i, j] = decode(classes[i][j], size, mode, bits)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(fill, places):  # raises what a thread did
            pass
    return images


def decode(
    path: Path, size: tuple[int, int], mode: Mode, bits: int | None = None
) -> np.ndarray:
    """Decodes one image, upright, on white where it is transparent.

    Args:
      path: of its file.
      size: (height, width) of the result in pixels.
      mode: "RGB" or "L".
      bits: how many bits the images of its folder use, of 16; None for its own range.

    Returns:
      `uint8[height, width, channels]`.

    Raises:
      InputError: if it cannot be read, or has too many pixels.
    """
    height, width = size
    try:
        if not path.is_file():  # to read a pipe is to wait
            raise OSError("it is not a file")
        if not path.stat().st_size:
            raise OSError("it is empty")
        # Not by its name: Pillow then maps the file, and garbles a TIFF that it turns.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            check_pixels(image)
            wide = read_wide(file, image)
            upright = (
                ImageOps.exif_transpose(image)
                if wide is None
                else wide.narrow(wide.range.bits(bits))
            )
            flat = _flat(upright, mode)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path} has too many pixels ({error}); delete it, or make it smaller"
        ) from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        unknown = isinstance(error, UnidentifiedImageError)  # its words are of a stream
        why = f"it is none of {', '.join(FORMATS)}" if unknown else error
        raise InputError(
            f"{path} cannot be read as an image ({why}); delete it or mend it"
        ) from error
    flat = flat.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(flat).reshape(height, width, len(mode))


def check_pixels(image: Image.Image) -> None:
    """Refuses what Pillow only warns of, unless it is told to count no pixels.

    Raises:
      DecompressionBombError: if there are too many.
    """
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height}, of {most} at most"
        )


def _flat(image: Image.Image, mode: Mode) -> Image.Image:
    """The image in a mode of 8 bits that has no transparency."""
    if image.mode in UNBOUNDED:
        raise ValueError(
            "its pixels are 32-bit numbers of no known range; save it in 8 or 16 bits"
        )
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert(mode)


def _room(shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.zeros(shape, np.uint8)
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"{shape[0]} classes of up to {shape[1]} images do not fit in memory "
            f"({error}); choose a smaller size or fewer images"
        ) from error
