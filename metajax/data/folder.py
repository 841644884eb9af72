"""A user's folder of images as an image store."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from metajax._files.writing import write_blocks, write_whole
from metajax.checks import check_count
from metajax.data._depth import BITS
from metajax.data._names import Classes
from metajax.data._survey import Survey, survey
from metajax.data.contents import stamp_of
from metajax.data.decoding import Mode, decode_classes
from metajax.data.images import ImageStore
from metajax.data.listing import (
    Listing,
    Split,
    list_images,
    list_splits,
    warn_each,
)
from metajax.errors import InputError

LARGEST_SIDE = 9459  # pixels; its square is within what Pillow reads of an image
SHOWN = 40  # characters of a folder's name, in its cache's
CACHE_FORM = 4  # to be raised when a file would decode otherwise


def image_folder(
    path: str | Path,
    size: tuple[int, int] = (84, 84),
    *,
    split: Split | None = None,
    color: bool = True,
    cache: str | Path | None = None,
    mapped: bool = False,
) -> ImageStore:
    """The images of a folder of yours, for `image_episodes` or `stream_episodes`.

    A class is a folder that directly holds images (PNG, JPEG, BMP, GIF, WebP, TIFF), at
    any depth. What begins with a dot, or is left by a system, is passed over. Names
    that differ only in white space at their ends or in Unicode form are of one class. A
    warning names what else is not read, or may not be meant: files of other suffixes,
    folders and tables that make no class, images of no class or under two labels,
    folders of masks.

    | `split` | what is read |
    |---|---|
    | None | `path/CLASS/*` |
    | None, and `path` is a table, or a folder with one and no classes | the table |
    | "train", "validation", "test" | `path/SPLIT/CLASS/*` |
    | the same, if there is no such folder | `path/SPLIT.csv`, `path/split/SPLIT.csv` |

    A table is a CSV file with columns `filename` and `label` (Ravi and Larochelle's
    form); its files are in `images/` in the folder, or in the folder itself. Splits may
    be called `val`, `valid`, `training` and `testing`, in any case. The splits of
    few-shot learning share no classes: see that yours do not. These are the forms in
    which miniImageNet, tieredImageNet and CUB are passed on as image files; other
    files, such as pickles, are not read.

    Images are turned upright as their EXIF data say, laid on white where they are
    transparent, and resized to `size`, whatever their proportions, with Lanczos'
    filter. Of several images in a file the first is read. Images of 16 bits use as many
    of them as their header says. Those whose header says nothing have one depth, of all
    splits: the fewest of 8, 10, 12, 14 or 16 bits that hold their largest number. A
    warning says so where that is not 16. So pass a split by its name: `path / "train"`
    is a folder of its own, whose depth may be another.

    Args:
      path: the folder, or a table.
      size: (height, width) of the result in pixels.
      split: which part of the folder.
      color: three channels; one, grey, if False.
      cache: a folder in which to keep the decoded images. They are decoded again when a
        file's name, size or time of change is another.
      mapped: leave the images in that folder, for `stream_episodes`: no more than a
        class at a time is in memory.

    Returns:
      An `ImageStore`, classes and files sorted by name; uneven classes are padded.

    Raises:
      InputError: if there are no images, no such split, a table with a mistake, an
        image that cannot be read or has more than 89 million pixels, a side of more
        than 9,459, no room, or no folder to map them from.

    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for i, name in enumerate(("cats/tom.png", "cats/kit.png", "dogs/rex.png")):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     Image.new("RGB", (120, 90), (i, i, i)).save(folder / name)
    >>> store = image_folder(folder)
    >>> store.images.shape, store.counts.tolist(), store.names
    ((2, 2, 84, 84, 3), [2, 1], ('cats', 'dogs'))

    Source: Ravi & Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR
    2017, for the form of the tables.
    """
    if not hasattr(size, "__len__") or len(size) != 2:
        raise InputError(f"size must be (height, width), got {size!r}")
    height = check_count("height", size[0], least=1, most=LARGEST_SIDE)
    width = check_count("width", size[1], least=1, most=LARGEST_SIDE)
    if split not in (None, *get_args(Split)):
        raise InputError(
            f"split must be None or one of {', '.join(get_args(Split))}, got {split!r}"
        )
    if mapped and cache is None:
        raise InputError("mapped=True needs cache=DIR, a folder to keep the images in")
    path, size = Path(path), (height, width)
    mode: Mode = "RGB" if color else "L"
    listing = list_images(path, split)
    warn_each(listing.lines)
    classes, whole = listing.classes, _whole(path, split, listing)
    if cache is None:
        bits, lines = survey(*whole)
        images = decode_classes(list(classes.values()), size, mode, bits)
    else:
        name = (path if path.is_dir() else path.parent).resolve().name[:SHOWN]
        seen = Path(cache) / f"{name}-{_key(whole)}.json"
        before = _read_survey(seen)
        bits, lines = found = before or survey(*whole)
        settings = _Settings(size, mode, bits)
        kept = Path(cache) / f"{name}-{split or 'all'}-{_key_of(listing, settings)}.npy"
        images = (_mapped if mapped else _cached)(kept, classes, settings)
        if before is None:
            _write_survey(seen, found)
    warn_each(lines)
    counts = np.array([len(files) for files in classes.values()], np.int32)
    return ImageStore(images, counts, tuple(classes))


class _Files(NamedTuple):
    folder: Path
    paths: list[Path]


class _Settings(NamedTuple):
    size: tuple[int, int]
    mode: Mode
    bits: int | None


def _whole(path: Path, split: Split | None, listing: Listing) -> _Files:
    """The images whose depth is one: of all splits, if there are."""
    if split is None:
        return _Files(listing.folder, listing.files)
    return _Files(path, sorted({*list_splits(path), *listing.files}))


def _cached(kept: Path, classes: Classes, settings: _Settings) -> np.ndarray:
    """The images kept in a file, in memory; decoded into both if it has none."""
    if (images := _read(kept, _shape(classes, settings))) is not None:
        return np.array(images)
    images = decode_classes(list(classes.values()), *settings)
    _write(kept, images.shape, [images])
    return images


def _mapped(kept: Path, classes: Classes, settings: _Settings) -> np.ndarray:
    """The same, left in the file."""
    shape = _shape(classes, settings)
    if (images := _read(kept, shape)) is not None:
        return images
    blocks = (
        np.pad(images, [(0, shape[1] - len(images)), (0, 0), (0, 0), (0, 0)])
        for files in classes.values()
        for images in decode_classes([files], *settings)
    )
    _write(kept, shape, blocks)
    return np.lib.format.open_memmap(kept, mode="r")


def _read_survey(seen: Path) -> Survey | None:
    """What was seen of a folder before; None if nothing, or its file is damaged."""
    try:
        bits, lines = json.loads(seen.read_bytes())
        if bits in (None, *BITS) and all(isinstance(line, str) for line in lines):
            return Survey(bits, tuple(lines))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return None


def _write_survey(seen: Path, found: Survey) -> None:
    with contextlib.suppress(OSError):  # it only saves time
        write_whole(seen, json.dumps(found))


def _shape(classes: Classes, settings: _Settings) -> tuple[int, ...]:
    most = max(map(len, classes.values()))
    return len(classes), most, *settings.size, len(settings.mode)


def _key_of(listing: Listing, settings: _Settings) -> str:
    """A digest of what the decoded images depend on."""
    counts = [(name, len(files)) for name, files in listing.classes.items()]
    return _key(_Files(listing.folder, listing.files), settings, counts)


def _key(files: _Files, *settings: Any) -> str:
    """A digest of image files, as they are now, and of how they are read."""
    folder = files.folder
    seen = [(os.path.relpath(path, folder), *_stamp(path)) for path in files.paths]
    told = json.dumps([CACHE_FORM, str(folder.resolve()), *settings, seen])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return stamp_of(path)
    except OSError:
        return ()  # decoding says what is wrong with it


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The images kept in a file, mapped; None if there are not just bytes so shaped."""
    try:
        images = np.lib.format.open_memmap(path, mode="r")
        whole = path.stat().st_size == images.offset + images.nbytes
    except Exception:  # of a damaged file numpy may raise almost anything
        return None
    whole = whole and images.shape == shape and images.dtype == np.uint8
    return images if whole else None


def _write(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Writes bytes of a shape, in blocks, to a file: wholly or not at all."""
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.uint8))
    begin = BytesIO()
    np.lib.format.write_array_header_1_0(begin, {**header, "shape": shape})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by a memory map, which a full disk would end the process for.
        rest = (np.ascontiguousarray(block).data for block in blocks)
        write_blocks(path, itertools.chain([begin.getvalue()], rest))
    except OSError as error:
        raise InputError(
            f"cannot keep the decoded images in {path} ({error}); choose another folder"
        ) from error
