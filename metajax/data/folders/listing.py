"""The image files of a user's folder by class: which layouts are read, and how."""

import contextlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, get_args

from metajax.data.folders._listing import Listing as Listing
from metajax.data.folders._rows import TABLES
from metajax.data.folders.columns import Columns as Columns
from metajax.data.folders.columns import parse_columns as parse_columns
from metajax.data.folders.layout import (
    IMAGES,
    SPLIT_TABLES,
    Source,
    Split,
    Table,
    find_split,
    find_whole,
    holds_split,
)
from metajax.data.folders.names import SPLIT_NAMES
from metajax.data.folders.report import unread
from metajax.data.folders.table import has_rows, has_splits
from metajax.data.folders.tree import SUFFIXES, walk
from metajax.data.folders.unreadable import describe, hints_for
from metajax.data.pictures.faults import gather_faults
from metajax.errors import InputError


class Loose(NamedTuple):
    """The images of no class below a folder.

    Attributes:
      names: their paths below the folder, sorted.
      lines: what is not read, a line each.
    """

    names: list[str]
    lines: tuple[str, ...]


def warn_each(lines: Iterable[str]) -> None:
    """Warns of each line; the command prints it."""
    for line in lines:
        warnings.warn(line, stacklevel=3)


def list_images(
    path: Path, split: Split | None, columns: Columns | None = None
) -> Listing:
    """Lists the images of a folder or a table by class; see `image_folder`.

    Args:
      path: the folder, or the table.
      split: which part of the folder.
      columns: of tables, as a person names them.

    Returns:
      A `Listing` without faults.

    Raises:
      InputError: if the folder, the split or images are not there, or a table is not as
        expected.
    """
    listing = find_images(path, split, columns)
    if listing.faults:
        raise gather_faults(listing.faults, listing.folder)
    return listing


def find_images(path: Path, split: Split | None, columns: Columns | None) -> Listing:
    """The same, with the lines of a table that cannot be used as faults."""
    return _find(path, split, columns).listing()


def has_split(path: Path, split: Split, columns: Columns | None = None) -> bool:
    """Whether a folder or a table has a split, whatever is wrong with it.

    Args:
      path: the folder, or the table.
      split: which part of it.
      columns: of tables, as a person names them.

    Raises:
      InputError: if the folder is not there, or has several folders or tables of it.
    """
    if path.is_file() and path.suffix.lower() in TABLES:
        return has_rows(path, columns, SPLIT_NAMES[split])
    check_folder(path)
    return holds_split(path, split, columns)


def list_others(path: Path, split: Split, columns: Columns | None) -> set[Path]:
    """The images of all splits of a folder, or of a table, but one.

    Those of a split that cannot be listed are left out: that split itself is refused
    when it is read, and the others need not wait for its mend.
    """
    files: set[Path] = set()
    for other in get_args(Split):
        if other != split:
            with contextlib.suppress(InputError):
                files |= _find(path, other, columns).files()
    return files


def list_loose(folder: Path) -> Loose:
    """Lists every image in a folder, at any depth.

    Raises:
      InputError: if the folder is not there, or there are none.
    """
    check_folder(folder)
    tree = walk(folder)
    if not (names := tree.named([x for files in tree.images.values() for x in files])):
        raise InputError(
            f"no images in {folder}: looked for {', '.join(SUFFIXES)} at any depth; "
            f"found {describe(folder, tree)}"
        )
    return Loose(names, tuple(unread(tree)))


def check_folder(folder: Path) -> None:
    """Checks that a folder of images is one.

    Raises:
      InputError: if it is not.
    """
    if folder.is_dir():
        return
    if not folder.exists():
        what = "not there"
    elif hints := hints_for([folder.suffix]):
        what = f"a file, not a folder: {hints[0]}"
    else:
        what = "a file, not a folder"
    raise InputError(f"expected a folder of images at {folder}, which is {what}")


def _find(path: Path, split: Split | None, columns: Columns | None) -> Source:
    """What says the classes."""
    if not (path.is_file() and path.suffix.lower() in TABLES):
        check_folder(path)
        if split is None:
            return find_whole(path, columns)
        return find_split(path, split, columns)
    inside = path.parent.name == SPLIT_TABLES and not (path.parent / IMAGES).is_dir()
    folder = path.parent.parent if inside else path.parent
    if split is None:
        return Table(path, folder, columns)
    if not has_splits(path, columns):
        raise InputError(
            f"{path} is one table, and no column of it says the split of a row: pass "
            "the folder of train.csv, val.csv and test.csv, or add a column split"
        )
    return Table(path, folder, columns, SPLIT_NAMES[split])
