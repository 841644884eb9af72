"""Decoded images that are kept in a file, and decoded again when files change."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax._files.writing import write_blocks, write_whole
from metajax.data.folders._listing import Listing
from metajax.data.folders.contents import stamp_of
from metajax.data.folders.survey import Survey
from metajax.data.pictures.decoding import Pixels
from metajax.data.pictures.depth import BITS
from metajax.errors import InputError

CACHE_FORM = 4  # to be raised when a file would decode otherwise


class Files(NamedTuple):
    """Image files, and the folder that holds them."""

    folder: Path
    paths: list[Path]


def read_survey(seen: Path | None) -> Survey | None:
    """What was seen of files before; None if nothing, or its file is damaged."""
    if seen is None:
        return None
    try:
        bits, lines = json.loads(seen.read_bytes())
        if bits in (None, *BITS) and all(isinstance(line, str) for line in lines):
            return Survey(bits, tuple(lines))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return None


def write_survey(seen: Path, look: Survey) -> None:
    """Keeps what was seen of files, if it can be kept."""
    with contextlib.suppress(OSError, InputError):  # it only saves time
        write_whole(seen, json.dumps(look))


def key_of(files: Files, *settings: Any) -> str:
    """A digest of image files, as they are now, and of how they are read."""
    folder = files.folder
    seen = [(os.path.relpath(path, folder), *_stamp(path)) for path in files.paths]
    text = json.dumps([CACHE_FORM, str(folder.resolve()), *settings, seen])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def key_of_listing(listing: Listing, pixels: Pixels) -> str:
    """A digest of what the decoded images depend on."""
    counts = list(zip(listing.classes, listing.counts))
    return key_of(Files(listing.folder, listing.files), pixels, counts)


def read_kept(kept: Path, listing: Listing, pixels: Pixels) -> np.ndarray:
    """The images kept in a file, in memory; decoded into both if it has none.

    Raises:
      InputError: if files cannot be read, or nothing can be kept there.
    """
    if (images := read_array(kept, _shape(listing, pixels))) is not None:
        return np.array(images)
    images = listing.decode(pixels)
    write_array(kept, images.shape, [images])
    return images


def map_kept(kept: Path, listing: Listing, pixels: Pixels) -> np.ndarray:
    """The same, left in the file; no more than a class at a time is in memory."""
    shape = _shape(listing, pixels)
    if (images := read_array(kept, shape)) is not None:
        return images
    blocks = (
        np.pad(images, [(0, shape[1] - len(images)), (0, 0), (0, 0), (0, 0)])
        for images in listing.decode_each(pixels)
    )
    write_array(kept, shape, blocks)
    return np.lib.format.open_memmap(kept, mode="r")


def _shape(listing: Listing, pixels: Pixels) -> tuple[int, ...]:
    counts = listing.counts
    return len(counts), max(counts), *pixels.size, len(pixels.mode)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return stamp_of(path)
    except OSError:
        return ()  # decoding says what is wrong with it


def read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Bytes kept in a file, mapped; None if it holds no array of just that shape."""
    try:
        images = np.lib.format.open_memmap(path, mode="r")
        whole = path.stat().st_size == images.offset + images.nbytes
    except Exception:  # of a damaged file numpy may raise almost anything
        return None
    whole = whole and images.shape == shape and images.dtype == np.uint8
    return images if whole else None


def write_array(
    path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]
) -> None:
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
