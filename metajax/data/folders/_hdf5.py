"""Splits in one HDF5 file each, as torchmeta keeps miniImageNet and others."""

import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metajax.data.folders._listing import Listing
from metajax.data.folders.unreadable import HDF5
from metajax.data.pictures.decoding import (
    FORMATS,
    Pixels,
    check_pixels,
    decode_file,
    make_room,
)
from metajax.data.pictures.depth import read_wide
from metajax.data.pictures.faults import gather_faults
from metajax.data.pictures.fitting import resize
from metajax.errors import Fault, InputError

DATA, LABELS = "_data.hdf5", "_labels.json"
GROUP = "datasets"


@dataclass(frozen=True)
class ArrayListing(Listing):
    """The images of a split in an HDF5 file, which is the file of each class."""

    lengths: dict[str, int] | None = None
    """The number of images of each class."""

    @property
    def files(self) -> list[Path]:
        """The one file."""
        return list(dict.fromkeys(super().files))

    @property
    def counts(self) -> list[int]:
        """The number of images of each class."""
        return [(self.lengths or {})[name] for name in self.classes]

    def decode(self, pixels: Pixels) -> np.ndarray:
        """See `Listing.decode`."""
        shape = len(self.classes), max(self.counts), *pixels.size, len(pixels.mode)
        images = make_room(shape)
        for i, each in enumerate(self.decode_each(pixels)):
            images[i, : len(each)] = each
        return images

    def decode_each(self, pixels: Pixels) -> Iterator[np.ndarray]:
        """See `Listing.decode_each`."""
        (file,) = self.files
        faults: list[Fault] = []
        with _opened(file) as group, ThreadPoolExecutor(os.cpu_count()) as threads:
            for name in self.classes:
                read = partial(_decode, f"{file}:{name}", pixels=pixels)
                images = list(threads.map(read, enumerate(_read(group, name, file))))
                faults += [each for each in images if isinstance(each, Fault)]
                if not faults:
                    yield np.stack(images)
        if faults:
            raise gather_faults(faults, self.folder)


def find_hdf5(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The HDF5 file of a split, if there is one."""
    paths = (folder / f"{name}{DATA}" for name in names)
    return next(filter(Path.is_file, paths), None)


def list_hdf5(file: Path) -> ArrayListing:
    """Lists the images of an HDF5 file in torchmeta's form.

    Args:
      file: of a split, `train_data.hdf5`.

    Returns:
      An `ArrayListing`.

    Raises:
      InputError: if h5py is not installed, or the file has another form.
    """
    with _opened(file) as group:
        wrong = [name for name in sorted(group) if not _is_images(group, name)]
        if wrong or not len(group):
            held = f"{wrong[0]} is no array of images" if wrong else "no classes"
            raise InputError(f"{file} is not in torchmeta's form ({held}); {HDF5}")
        lengths = {name: len(group[name]) for name in sorted(group)}
    lines = _check_labels(file, list(lengths))
    return ArrayListing(
        file.parent, {name: [file] for name in lengths}, lines, lengths=lengths
    )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The group of a file's classes."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            f"{file} needs h5py, which is not installed: pip install h5py"
        ) from error
    try:
        whole = h5py.File(file, "r")
    except OSError as error:
        raise InputError(
            f"{file} is damaged, or no HDF5 file ({error}); get it again"
        ) from error
    with whole:
        if not isinstance(group := whole.get(GROUP), h5py.Group):
            raise InputError(f"{file} is not in torchmeta's form (no group); {HDF5}")
        yield group


def _is_images(group: Any, name: str) -> bool:
    """Whether a class is an array in the file itself: bytes, or encoded images."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return False
    data = group[name]
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        return False
    encoded = data.ndim == 1 and h5py.check_vlen_dtype(data.dtype) == np.uint8
    plain = data.dtype == np.uint8 and data.ndim == 4 and data.shape[-1] in (1, 3)
    return (encoded or plain) and 0 not in data.shape


def _check_labels(file: Path, names: list[str]) -> tuple[str, ...]:
    """What the list of classes beside a file says otherwise."""
    beside = file.with_name(file.name.removesuffix(DATA) + LABELS)
    try:
        labels = json.loads(beside.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError):
        labels = None
    if isinstance(labels, list) and sorted(map(str, labels)) == names:
        return ()
    return (
        f"{beside} does not list the classes of {file}: those in {file.name} count",
    )


def _read(group: Any, name: str, file: Path) -> np.ndarray:
    try:
        return group[name][:]
    except OSError as error:
        raise InputError(
            f"the class {name} of {file} is damaged ({error}); get the file again"
        ) from error


def _decode(
    place: str, item: tuple[int, np.ndarray], *, pixels: Pixels
) -> np.ndarray | Fault:
    """An image of an array, or what is wrong with it."""
    i, data = item
    try:
        if data.ndim == 1:
            file = io.BytesIO(data.tobytes())
            if _of_unknown_depth(file):
                return Fault(
                    f"{place}[{i}]",
                    "has 16 bits a number, and does not say how many of them it uses",
                    "encode it in 8 bits",
                )
            return decode_file(file, *pixels)
        image = Image.fromarray(data[..., 0] if data.shape[-1] == 1 else data)
        return resize(image.convert(pixels.mode), pixels.size, pixels.fit)
    except Exception as error:  # a damaged image makes Pillow raise almost anything
        reason = f"cannot be read as an image ({error})"
        return Fault(f"{place}[{i}]", reason, "get the file again")


def _of_unknown_depth(file: io.BytesIO) -> bool:
    """Whether an image would have to be read at the depth of the others."""
    with Image.open(file, formats=FORMATS) as image:
        check_pixels(image)
        wide = read_wide(file, image)
    file.seek(0)
    return wide is not None and wide.declared is None
