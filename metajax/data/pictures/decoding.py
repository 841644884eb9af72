"""Image files to arrays of bytes, many at a time."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from metajax.data.pictures.depth import read_wide
from metajax.data.pictures.faults import gather_faults
from metajax.data.pictures.fitting import STRETCHED, Fit, resize
from metajax.errors import Fault, FilesError, InputError

Mode = Literal["RGB", "L"]

# What a suffix promises is not trusted; these formats run no program of others.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
UNBOUNDED = ("I", "F")  # modes whose numbers may mean any brightness
SIDEWAYS = (5, 6, 7, 8)  # orientations, of EXIF data, that swap height and width


class Pixels(NamedTuple):
    """What images are decoded to.

    Attributes:
      size: (height, width) in pixels.
      mode: "RGB" or "L".
      bits: see `decode`.
      fit: how images of other sizes become that size.
    """

    size: tuple[int, int]
    mode: Mode
    bits: int | None = None
    fit: Fit = STRETCHED


def decode_classes(
    classes: Sequence[Sequence[Path]],
    size: tuple[int, int],
    mode: Mode,
    bits: int | None = None,
    fit: Fit = STRETCHED,
) -> np.ndarray:
    """Decodes the files of each class; see `metajax.data.image_folder`.

    Args:
      classes: the files of each.
      size: (height, width) of the result in pixels.
      mode: "RGB" or "L".
      bits: see `decode`.
      fit: how images of other sizes become that size.

    Returns:
      `uint8[classes, per_class, height, width, channels]`, uneven classes padded with
      zeros.

    Raises:
      FilesError: if files cannot be read; it lists all of them.
      InputError: if all images together do not fit in memory.
    """
    images = make_room((len(classes), max(map(len, classes)), *size, len(mode)))
    places = [(i, j) for i, files in enumerate(classes) for j in range(len(files))]

    def fill(place: tuple[int, int]) -> tuple[Fault, ...]:
        i, j = place
        try:
            images[i, j] = decode(classes[i][j], size, mode, bits, fit)
        except FilesError as error:
            return error.faults
        return ()

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        faults = [fault for each in threads.map(fill, places) for fault in each]
    if faults:
        files = [path for each in classes for path in each]
        raise gather_faults(faults, Path(os.path.commonpath(files)))
    return images


def decode(
    path: Path,
    size: tuple[int, int],
    mode: Mode,
    bits: int | None = None,
    fit: Fit = STRETCHED,
) -> np.ndarray:
    """Decodes one image, upright, on white where it is transparent.

    Args:
      path: of its file.
      size: (height, width) of the result in pixels.
      mode: "RGB" or "L".
      bits: how many bits the images of its folder use, of 16; None for its own range.
      fit: how an image of another size becomes that size.

    Returns:
      `uint8[height, width, channels]`.

    Raises:
      FilesError: if it cannot be read, or has too many pixels.
    """
    with opened(path) as file:
        return decode_file(file, size, mode, bits, fit)


@contextmanager
def opened(path: Path, formats: Sequence[str] = FORMATS) -> Iterator[IO[bytes]]:
    """Opens a file to be read as an image, and gives each error its name.

    Args:
      path: of the file.
      formats: those that it may have.

    Yields:
      The open file.

    Raises:
      FilesError: for any error in the block, or of opening the file.
    """
    try:
        if not path.is_file():  # to read a pipe is to wait
            raise OSError("it is not a file")
        if not path.stat().st_size:
            raise OSError("it is empty")
        # Not by its name: Pillow then maps the file, and garbles a TIFF that it turns.
        with path.open("rb") as file:
            yield file
    except FilesError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason, mend = f"has too many pixels ({error})", "delete it, or make it smaller"
        raise gather_faults([Fault(str(path), reason, mend)], path.parent) from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        unknown = isinstance(error, UnidentifiedImageError)  # its words are of a stream
        why = f"it is none of {', '.join(formats)}" if unknown else error
        reason = f"cannot be read as an image ({why})"
        fault = Fault(str(path), reason, "delete it or mend it")
        raise gather_faults([fault], path.parent) from error


def decode_file(
    file: IO[bytes],
    size: tuple[int, int],
    mode: Mode,
    bits: int | None = None,
    fit: Fit = STRETCHED,
) -> np.ndarray:
    """Decodes one image of an open file; see `decode`.

    Raises:
      Exception: almost any, of a damaged file.
    """
    with Image.open(file, formats=FORMATS) as image:
        check_pixels(image)
        wide = read_wide(file, image)
        upright = (
            ImageOps.exif_transpose(image)
            if wide is None
            else wide.narrow(wide.range.bits(bits))
        )
        return resize(_flat(upright, mode), size, fit)


def size_of(path: Path) -> tuple[int, int]:
    """The (height, width) of an image as `decode` turns it upright.

    Raises:
      FilesError: if it cannot be read, or has too many pixels.
    """
    with opened(path) as file, Image.open(file, formats=FORMATS) as image:
        check_pixels(image)
        if image.format == "TIFF":  # whose size some versions of Pillow turn at once
            width, height = ImageOps.exif_transpose(image).size
        elif image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS:
            height, width = image.size
        else:
            width, height = image.size
        return height, width


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
    """The image in a mode of 8 bits, on white where it is transparent.

    Raises:
      ValueError: if its numbers may mean any brightness.
    """
    if image.mode in UNBOUNDED:
        raise ValueError(
            "its pixels are 32-bit numbers of no known range; save it in 8 or 16 bits"
        )
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert(mode)


def make_room(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros to decode images into, `uint8[classes, per_class, ...]`.

    Raises:
      InputError: if they do not fit in memory.
    """
    try:
        return np.zeros(shape, np.uint8)
    except (MemoryError, ValueError) as error:
        raise InputError(
            f"{shape[0]} classes of up to {shape[1]} images do not fit in memory "
            f"({error}); choose a smaller size or fewer images"
        ) from error
