"""A user's folder of images as an image store."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np

from metajax.data.contents import stamp_of
from metajax.data.decoding import Mode, decode_classes
from metajax.data.images import ImageStore
from metajax.data.listing import Classes, Split, list_images
from metajax.errors import InputError
from metajax.files import write_blocks
from metajax.types import check_count

LARGEST_SIDE = 9459  # pixels; its square is within what Pillow reads of an image
SHOWN = 40  # characters of a folder's name, in its cache's
CACHE_FORM = 2  # to be raised when a file would decode otherwise


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
    any depth. What begins with a dot is passed over.

    | `split` | what is read |
    |---|---|
    | None | `path/CLASS/*` |
    | None, and `path` is a table, or a folder with one and no classes | the table |
    | "train", "validation", "test" | `path/SPLIT/CLASS/*` |
    | the same, if there is no such folder | `path/SPLIT.csv`, `path/split/SPLIT.csv` |

    A table is a CSV file with columns `filename` and `label` (Ravi and Larochelle's
    form); its files are in `images/` in the folder, or in the folder itself. Validation
    may be called `val`. The splits of few-shot learning share no classes: see that
    yours do not. These are the forms in which miniImageNet, tieredImageNet and CUB are
    passed on as image files; other files, such as pickles, are not read.

    Images are turned upright as their EXIF data say, laid on white where they are
    transparent, and resized to `size`, whatever their proportions, with Lanczos'
    filter.

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
    >>> for name in ("cats/tom.png", "cats/kit.png", "dogs/rex.png"):
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     Image.new("RGB", (120, 90)).save(folder / name)
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
    classes = list_images(path, split)
    folder = path if path.is_dir() else path.parent
    if cache is None:
        images = _decode(classes, size, mode)
    else:
        key = _key(folder, classes, [*size, mode])
        name = folder.resolve().name[:SHOWN]
        kept = Path(cache) / f"{name}-{split or 'all'}-{key}.npy"
        images = (_mapped if mapped else _cached)(kept, classes, size, mode)
    counts = np.array([len(files) for files in classes.values()], np.int32)
    return ImageStore(images, counts, tuple(classes))


def _decode(classes: Classes, size: tuple[int, int], mode: Mode) -> np.ndarray:
    return decode_classes(list(classes.values()), size, mode)


def _cached(
    kept: Path, classes: Classes, size: tuple[int, int], mode: Mode
) -> np.ndarray:
    """The images kept in a file, in memory; decoded into both if it has none."""
    if (images := _read(kept, _shape(classes, size, mode))) is not None:
        return np.array(images)
    images = _decode(classes, size, mode)
    _write(kept, images.shape, [images])
    return images


def _mapped(
    kept: Path, classes: Classes, size: tuple[int, int], mode: Mode
) -> np.ndarray:
    """The same, left in the file."""
    shape = _shape(classes, size, mode)
    if (images := _read(kept, shape)) is not None:
        return images
    blocks = (
        np.pad(images, [(0, shape[1] - len(images)), (0, 0), (0, 0), (0, 0)])
        for files in classes.values()
        for images in decode_classes([files], size, mode)
    )
    _write(kept, shape, blocks)
    return np.lib.format.open_memmap(kept, mode="r")


def _shape(classes: Classes, size: tuple[int, int], mode: Mode) -> tuple[int, ...]:
    return len(classes), max(map(len, classes.values())), *size, len(mode)


def _key(folder: Path, classes: Classes, settings: Sequence[int | str]) -> str:
    """A digest of what the decoded images depend on."""
    listing = [
        (name, str(path.relative_to(folder)), *_stamp(path))
        for name, files in classes.items()
        for path in files
    ]
    told = json.dumps([CACHE_FORM, str(folder.resolve()), *settings, listing])
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
