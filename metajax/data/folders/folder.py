"""A user's folder of images as an image store.

A class is a folder that directly holds images (PNG, JPEG, BMP, GIF, WebP, TIFF), at any
depth; or a table says the class of each file. Names that begin with a dot, or that
systems leave behind, are passed over. Class names that differ only in white space at
their ends or in Unicode form are one class. A warning names what else is not read, or
may not be meant: files of other suffixes, folders and tables that make no class, images
of no class or under two labels, folders of masks.

| `split` | what is read |
|---|---|
| None | `path/CLASS/*` |
| None, and `path` is a table, or a folder with one and no classes | the table |
| "train", "validation", "test" | `path/SPLIT/CLASS/*` |
| the same, if there is no such folder | `path/SPLIT.csv`, `path/split/SPLIT.csv` |
| the same, without those tables | `path/SPLIT_data.hdf5`, as torchmeta writes it |
| the same, if `path` holds one table with a column `split` | its rows of that split |

A split may also be a folder of images with a table in it, as Hugging Face has it.
Splits may be called `val`, `valid`, `training` and `testing`, in any case. The splits
of few-shot learning share no classes: see that yours do not.

A table is a file of comma, semicolon, tab or bar separated values (`.csv`, `.tsv`) or
of JSON lines (`.jsonl`), in UTF-8 or UTF-16. It has a column of files (`filename`,
`file_name`, `image`, `path` ...) and one of labels (`label`, `class`, `category`,
`choice` ...), in any case; `columns` names them if they are called otherwise, or if
several might be meant. Paths are looked for in `images/` beside the table first, then
in the folder itself; they may be absolute, have backslashes, lack their suffix, or be
those that Label Studio gives its uploads. A row may have more cells than there are
columns only if the last column is none of these; a warning counts such rows.

Images are turned upright as their EXIF data say, laid on white where they are
transparent, and resized, whatever their proportions, with Lanczos' filter. The first
image of a file is read. Images of 16 bits use as many of them as their header says.
Those whose header does not say have one depth, of all splits: the fewest of 8, 10, 12,
14 or 16 bits that hold their largest number; a warning says so where that is not 16. So
pass a split by its name: `path / "train"` is a folder of its own, whose depth may be
another.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from metajax.checks import check_count
from metajax.data.folders.columns import Columns, check_columns
from metajax.data.folders.listing import (
    Listing,
    Split,
    find_images,
    list_others,
    warn_each,
)
from metajax.data.folders.prepared import (
    Files,
    key_of,
    key_of_listing,
    map_kept,
    read_kept,
    read_survey,
    write_survey,
)
from metajax.data.folders.survey import survey
from metajax.data.images import ImageStore
from metajax.data.pictures.decoding import Mode, Pixels
from metajax.data.pictures.faults import gather_faults, write_faults
from metajax.errors import FilesError, InputError, argument

LARGEST_SIDE = 9459  # pixels; its square is within what Pillow reads of an image
SHOWN = 40  # characters of a folder's name, in its cache's


def image_folder(
    path: str | Path,
    size: tuple[int, int] = (84, 84),
    *,
    split: Split | None = None,
    columns: Columns | None = None,
    min_per_class: int = 1,
    color: bool = True,
    cache: str | Path | None = None,
    mapped: bool = False,
) -> ImageStore:
    """The images of a folder of yours, laid out as `metajax.data.folders.folder` says.

    Args:
      path: the folder, or a table.
      size: (height, width) of the result in pixels.
      split: which part of the folder.
      columns: the names of a table's columns, as {"file": "photo", "label": "breed"}.
      min_per_class: classes of fewer images are left out, and a warning counts them.
      color: three channels; one, grey, if False.
      cache: a folder in which to keep the decoded images. They are decoded again when a
        file's name, size or time of change is another.
      mapped: leave the images in that folder, for `stream_episodes`: no more than a
        class at a time is in memory.

    Returns:
      An `ImageStore`, classes and files sorted by name; uneven classes are padded.

    Raises:
      FilesError: if files cannot be read, or lines of a table not be used; it lists
        those of all splits.
      InputError: if there are no images, no such split, no room, or no `cache` to map.

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
    2017, for tables.
    """
    size, kept = check_size(size), check_cache(cache, mapped)
    _check_split(split, min_per_class)
    columns = check_columns(columns)
    reading = _Reading(Path(path), split, columns, min_per_class, kept, mapped)
    whole = reading.list(split)
    listing = reading.without_small(whole)
    warn_each(listing.lines)
    images, lines = reading.decode(whole, listing, size, "RGB" if color else "L")
    warn_each(lines)
    counts = np.array(listing.counts, np.int32)
    return ImageStore(images, counts, tuple(listing.classes))


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) of images, if it is one that can be read.

    Raises:
      InputError: if it is not.
    """
    if not hasattr(size, "__len__") or len(size) != 2:
        raise InputError(f"{argument('size')} must be (height, width), got {size!r}")
    height = check_count("height", size[0], least=1, most=LARGEST_SIDE)
    width = check_count("width", size[1], least=1, most=LARGEST_SIDE)
    return height, width


def _check_split(split: Split | None, least: int) -> None:
    if split not in (None, *get_args(Split)):
        raise InputError(
            f"split must be None or one of {', '.join(get_args(Split))}, got {split!r}"
        )
    check_count("min_per_class", least, least=1)


def check_cache(cache: str | Path | None, mapped: bool) -> Path | None:
    """Returns the folder in which to keep images, or None.

    Raises:
      InputError: if images are to be mapped and there is none.
    """
    if mapped and cache is None:
        raise InputError("mapped=True needs cache=DIR, a folder to keep the images in")
    return None if cache is None else Path(cache)


class _Reading(NamedTuple):
    """From where images are read, and how they are kept."""

    path: Path
    split: Split | None
    columns: Columns | None
    least: int
    cache: Path | None
    mapped: bool

    def list(self, split: Split | None) -> Listing:
        """The images of all classes of a split."""
        listing = find_images(self.path, split, self.columns)
        # Faults are raised once the files are decoded, and nothing else is said then.
        return replace(listing, lines=()) if listing.faults else listing

    def without_small(self, listing: Listing) -> Listing:
        """Those of classes that are not too small, if the listing has no faults."""
        return listing if listing.faults else listing.without_small(self.least)

    def decode(
        self, whole: Listing, listing: Listing, size: tuple[int, int], mode: Mode
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The images of the split, and what a person should know of them.

        Args:
          whole: the split with its small classes: the depth of images does not depend
            on which are left out.
          listing: the images to decode.
          size: of the result.
          mode: of the result.
        """
        files = self._files(whole)
        seen = self._kept(f"{key_of(files)}.json")
        before = read_survey(seen)
        bits, lines = look = before or survey(*files)
        pixels = Pixels(size, mode, bits)
        try:
            images = self._images(listing, self.split, pixels)
        except FilesError as error:
            raise self._with_others(error, pixels) from error
        if seen is not None and before is None:
            write_survey(seen, look)
        return images, lines

    def _files(self, listing: Listing) -> Files:
        """The images whose depth is one: of all splits, if there are."""
        if self.split is None:
            return Files(listing.folder, listing.files)
        others = list_others(self.path, self.split, self.columns)
        return Files(self.path, sorted({*others, *listing.files}))

    def _images(
        self, listing: Listing, split: Split | None, pixels: Pixels
    ) -> np.ndarray:
        if listing.faults:
            raise gather_faults(listing.faults_of(pixels), listing.folder)
        kept = self._kept(f"{split or 'all'}-{key_of_listing(listing, pixels)}.npy")
        if kept is None:
            return listing.decode(pixels)
        return (map_kept if self.mapped else read_kept)(kept, listing, pixels)

    @property
    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def _kept(self, end: str) -> Path | None:
        """A file of the cache, which is called by the folder."""
        if self.cache is None:
            return None
        return self.cache / f"{self._folder.resolve().name[:SHOWN]}-{end}"

    def _with_others(self, error: FilesError, pixels: Pixels) -> FilesError:
        """The error of a split, and of the other splits, whose good images are kept."""
        faults = list(error.faults)
        for other in get_args(Split) if self.split else ():
            if other == self.split:
                continue
            try:
                listing = self.without_small(self.list(other))
                if self.cache is None:
                    faults += listing.faults_of(pixels)
                else:
                    self._replace(mapped=True)._images(listing, other, pixels)
            except FilesError as more:
                faults += more.faults
            except InputError:  # which reading that split says
                pass
        whole = gather_faults(faults, self._folder)
        return write_faults(whole, self._folder, self._kept("unreadable.csv"))
