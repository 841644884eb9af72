"""The images that a COCO file names, and whether its entries fit them."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metajax.data.dense._coco import SHOWN, Coco, Thing, parse_coco
from metajax.data.dense._coco_checks import MEND
from metajax.data.folders.listing import check_folder
from metajax.data.folders.names import some
from metajax.data.pictures.decoding import size_of
from metajax.data.pictures.faults import gather_faults
from metajax.errors import Fault, FilesError, InputError

IMAGES = "images"
SLACK = 1.0  # pixels by which a rounded box may leave its image


class Pictures(NamedTuple):
    """The images of a COCO file.

    Attributes:
      source: the COCO file.
      files: of the images.
      sizes: (height, width) of each.
      things: the objects of each.
      names: of the classes.
    """

    source: Path
    files: list[Path]
    sizes: list[tuple[int, int]]
    things: list[list[Thing]]
    names: tuple[str, ...]


def read_pictures(folder: Path, source: Path) -> Pictures:
    """Reads a COCO file, and the sizes of its images.

    Raises:
      FilesError: if images cannot be read, or entries cannot be used.
      InputError: if it is no such file, or images are not there.
    """
    check_folder(folder)
    coco = parse_coco(source)
    files = _find(folder, source, coco.files)
    sizes = _sizes(folder, source, files, coco)
    return Pictures(source, files, sizes, coco.things, coco.names)


def _find(folder: Path, file: Path, names: list[str]) -> list[Path]:
    """The files of images, by their names in a COCO file."""
    places = [(folder / IMAGES / name, folder / name) for name in names]
    files = [next(filter(Path.is_file, two), None) for two in places]
    if missing := [name for name, path in zip(names, files) if path is None]:
        many = "image that is" if len(missing) == 1 else "images that are"
        raise InputError(
            f"{file} names {len(missing)} {many} neither in {folder / IMAGES} nor in "
            f"{folder}: {some(missing)}; add them, or delete their entries"
        )
    paths = [path for path in files if path is not None]
    names_of: dict[str, str] = {}
    for name, path in zip(names, paths):
        if (other := names_of.setdefault(os.path.realpath(path), name)) != name:
            raise InputError(
                f"{file} names {path} twice, as {other} and {name}; put its objects "
                "into one entry of images"
            )
    return paths


def _sizes(
    folder: Path, file: Path, files: list[Path], coco: Coco
) -> list[tuple[int, int]]:
    """The (height, width) of each image, which its entry and its objects must fit."""

    def attempt(path: Path) -> tuple[int, int] | FilesError:
        try:
            return size_of(path)
        except FilesError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sizes = list(threads.map(attempt, files))
    faults: list[Fault] = []
    for path, size, stated, things in zip(files, sizes, coco.sizes, coco.things):
        if isinstance(size, FilesError):
            faults += size.faults
        elif any(s not in (None, side) for s, side in zip(stated, size)):
            reason = (
                f"has {size[1]}x{size[0]} pixels, and {file.name} says "
                f"{stated[1]}x{stated[0]}"
            )
            faults.append(Fault(str(path), reason, "use the image that was annotated"))
        else:
            faults += [fault for thing in things for fault in _outside(thing, size)]
    if faults:
        raise gather_faults(faults, folder, SHOWN)
    return [size for size in sizes if not isinstance(size, FilesError)]


def _outside(thing: Thing, size: tuple[int, int]) -> list[Fault]:
    """The faults of an object that is not inside of its image."""
    x, y, w, h = thing.box
    height, width = size
    low, high = np.array([x, y]), np.array([x + w, y + h])
    where = f"of {width}x{height} pixels"
    faults = []
    beside = (high <= 0).any() or (low >= [width, height]).any()
    if beside or _leaves(np.stack([low, high]), size):
        reason = f"has a box outside of its image {where} (x={x}, y={y}, w={w}, h={h})"
        faults.append(Fault(thing.place, reason, MEND))
    if isinstance(thing.outline, list):
        corners = [np.reshape(polygon, (-1, 2)) for polygon in thing.outline]
        if _leaves(np.concatenate(corners), size):
            reason = f"has an outline that leaves its image {where}"
            faults.append(Fault(thing.place, reason, MEND))
    return faults


def _leaves(corners: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether corners (x, y) lie outside of an image by more than rounding does."""
    high = np.array(size[::-1]) + SLACK
    return bool((corners < -SLACK).any() or (corners > high).any())
