"""The images that a COCO file names, and whether its entries fit them."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from metajax.data._coco import SHOWN, Coco, Thing
from metajax.data._coco_checks import MEND
from metajax.data._faults import gather_faults
from metajax.data._names import some
from metajax.data.decoding import size_of
from metajax.errors import Fault, FilesError, InputError

IMAGES = "images"
SLACK = 1.0  # pixels by which a rounded box may leave its image


def find_files(folder: Path, file: Path, names: list[str]) -> list[Path]:
    """The files of images, by their names in a COCO file.

    Raises:
      InputError: if some are not there.
    """
    places = [(folder / IMAGES / name, folder / name) for name in names]
    files = [next(filter(Path.is_file, two), None) for two in places]
    if missing := [name for name, path in zip(names, files) if path is None]:
        many = "image that is" if len(missing) == 1 else "images that are"
        raise InputError(
            f"{file} names {len(missing)} {many} neither in {folder / IMAGES} nor in "
            f"{folder}: {some(missing)}; add them, or delete their entries"
        )
    return [path for path in files if path is not None]


def check_sizes(
    folder: Path, file: Path, files: list[Path], coco: Coco
) -> list[tuple[int, int]]:
    """The (height, width) of each image.

    Raises:
      FilesError: if files cannot be read, or do not fit their entries or objects.
    """

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
    """The fault of an object that is not inside of its image."""
    x, y, w, h = thing.box
    most = size[1] + SLACK, size[0] + SLACK
    where = f"of {size[1]}x{size[0]} pixels"
    faults = []
    leaves = min(x, y) < -SLACK or x + w > most[0] or y + h > most[1]
    if leaves or min(x + w, y + h) <= 0 or x >= size[1] or y >= size[0]:
        box = f"x={x}, y={y}, w={w}, h={h}"
        reason = f"has a box outside of its image {where} ({box})"
        faults.append(Fault(thing.place, reason, MEND))
    if isinstance(thing.outline, list):
        corners = np.concatenate([np.reshape(x, (-1, 2)) for x in thing.outline])
        if corners.min() < -SLACK or (corners > most).any():
            reason = f"has an outline that leaves its image {where}"
            faults.append(Fault(thing.place, reason, MEND))
    return faults
