"""A look at the files of a folder before they are decoded."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from metajax.data.folders.names import counted, some
from metajax.data.pictures.decoding import FORMATS, check_pixels
from metajax.data.pictures.depth import Range, fewest_bits, read_wide

PLAIN = b"\xff\xd8", b"BM"  # JPEG and BMP files hold one image of 8 bits


class Survey(NamedTuple):
    """How the images of a folder are to be decoded.

    Attributes:
      bits: how many bits the 16-bit images use that do not declare it; None if there
        are none.
      lines: what a person should know.
    """

    bits: int | None
    lines: tuple[str, ...]


class _Look(NamedTuple):
    several: bool = False
    range: Range | None = None


def survey(folder: Path, files: Sequence[Path], least: int | None = None) -> Survey:
    """Looks at image files; one that cannot be read is left to decoding.

    Args:
      folder: the folder that holds them.
      files: the images.
      least: the fewest bits that 16-bit images use, known from others of their source.

    Returns:
      A `Survey`.
    """
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        looks = list(threads.map(_look, files))
    several = [path for path, look in zip(files, looks) if look.several]
    ranges = [r for _, r in looks if r is not None and r.declared is None]
    bits = max([fewest_bits(r.largest) for r in ranges] + [least or 0]) or None
    lines = _lines_of_bits(folder, ranges, bits)
    if several:
        named = some(os.path.relpath(path, folder) for path in several)
        lines.append(
            f"{counted(len(several), 'file')} of several images in {folder}, and only "
            f"the first is read: {named}"
        )
    return Survey(bits, tuple(lines))


def _lines_of_bits(folder: Path, ranges: list[Range], common: int | None) -> list[str]:
    if not ranges or common == 16:
        return []
    return [
        f"{counted(len(ranges), '16-bit image')} read as {common}-bit in {folder}: the "
        "depth of the whole folder, since the files declare none and their largest "
        f"sample is {max(r.largest for r in ranges)}"
    ]


def _look(path: Path) -> _Look:
    try:
        if not path.is_file():  # reading a pipe would wait
            return _Look()
        with path.open("rb") as file:
            if file.read(2) in PLAIN:
                return _Look()
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                check_pixels(image)
                wide = read_wide(file, image)
                several = getattr(image, "is_animated", False)
                return _Look(several, None if wide is None else wide.range)
    except Exception:  # a damaged file makes Pillow raise almost anything
        return _Look()
