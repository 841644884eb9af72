"""Tables of images: a file and a label a row, in the forms that people have."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from metajax.data.folders._rows import TABLES, Row, Rows, header_of, read_rows
from metajax.data.folders.columns import Columns, Role, match
from metajax.data.folders.names import (
    ALL_SPLITS,
    Classes,
    clean,
    counted,
    from_text,
    some,
)
from metajax.data.folders.tree import SUFFIXES
from metajax.errors import Fault, InputError

# Where Label Studio keeps files, and the digits that it puts before their names.
UPLOADS = re.compile(r"^(?:https?://[^/]+)?/data/(?:upload/(?:\d+/)?|local-files/\?d=)")
DIGITS = re.compile(r"^[0-9a-f]{8}-")


class Place(NamedTuple):
    """Where the files of a table are.

    Attributes:
      folder: that they are in, at any depth.
      roots: folders that their paths may be relative to, in the order of trying.
      starts: how paths of files in the folder may begin.
    """

    folder: Path
    roots: Sequence[str]
    starts: Sequence[str]


class Named(NamedTuple):
    """What a table names.

    Attributes:
      classes: the files of each label, as it is written.
      faults: the rows that cannot be used.
      lines: what a person should know, a line each.
    """

    classes: Classes
    faults: tuple[Fault, ...] = ()
    lines: tuple[str, ...] = ()


def place_of(folder: Path, roots: Sequence[Path]) -> Place:
    """The place of the files of tables, see `Place`."""
    starts = dict.fromkeys([os.path.abspath(folder), os.path.realpath(folder)])
    return Place(
        folder,
        [os.path.abspath(root) for root in roots],
        [os.path.join(start, "") for start in starts],
    )


def read_table(
    table: Path,
    place: Place,
    columns: Columns | None = None,
    splits: Sequence[str] | None = None,
) -> Named:
    """The files of each label.

    Args:
      table: a CSV file, or one of JSON lines.
      place: where its files are.
      columns: see `metajax.data.folders.columns.choose`.
      splits: the names of a split, in small letters; the others' rows are passed over.

    Returns:
      What it names.

    Raises:
      InputError: if it is no table of files and labels, or names none.
    """
    read = read_rows(table, columns)
    rows = read.rows if splits is None else _of_split(read, splits)
    if splits is not None and not rows:
        raise InputError(
            f"no row of {table} is of the {splits[0]} split: its column "
            f"{read.columns['split']} should say {' or '.join(splits)}, and says "
            f"{some(sorted(set(map(_split_of, read.rows))))}"
        )
    if not rows:
        raise InputError(f"{table} names no images; expected a line for each")
    classes, faults = _located(table, rows, place)
    return Named(classes, faults, tuple(_lines(table, read, splits)))


def _lines(table: Path, read: Rows, splits: Sequence[str] | None) -> Iterator[str]:
    """What of the rows, and of the column of splits, is not read."""
    yield from read.lines
    if (column := read.columns.get("split")) is None:
        return
    if splits is None:
        yield f"the column {column} of {table} is not read: the rows of all splits are"
        return
    others = [x for x in map(_split_of, read.rows) if x not in ALL_SPLITS]
    if others:
        yield (
            f"{counted(len(others), 'row')} of no split in {table}, and not read: "
            f"{column} says {some(sorted(set(others)))}"
        )


def _split_of(row: Row) -> str:
    return clean(row.split).casefold()


def has_splits(table: Path, columns: Columns | None) -> bool:
    """Whether a table has a column that says the split of each row."""
    return _has(table, columns, "file", "label", "split")


def has_rows(table: Path, columns: Columns | None, splits: Sequence[str]) -> bool:
    """Whether a table with such a column has a row of a split."""
    return bool(_of_split(read_rows(table, columns), splits))


def is_table(path: Path) -> bool:
    """Whether a file may be a table: by its suffix, or by columns of files and labels.

    An empty file is none.
    """
    if path.suffix.lower() in TABLES:
        return path.stat().st_size > 0
    return _has(path, None, "file", "label")


def _has(path: Path, columns: Columns | None, *roles: Role) -> bool:
    places = match(header_of(path, columns), columns)
    return all(places[role] for role in roles)


def _of_split(read: Rows, splits: Sequence[str]) -> list[Row]:
    # A row of too many cells may be of any split; it is refused.
    return [row for row in read.rows if row.surplus or _split_of(row) in splits]


def _located(
    table: Path, rows: Sequence[Row], place: Place
) -> tuple[Classes, tuple[Fault, ...]]:
    """The files of rows by label, and the rows that cannot be used."""
    classes: Classes = {}
    faults: list[Fault] = []
    seen: set[Path] = set()
    for row in rows:
        paths = _locate(row.file, table, place) if clean(row.file) else []
        if mistake := _mistake(row) or _mistake_of_file(row.file, paths, seen, place):
            faults.append(Fault(f"line {row.line} of {table}", *mistake))
            continue
        seen.add(paths[0])
        classes.setdefault(row.label, []).append(paths[0])
    return classes, tuple(faults)


def _mistake(row: Row) -> tuple[str, str] | None:
    """What is wrong with the cells of a row, and the mend."""
    if row.surplus:
        return (
            f"has more cells than the table has columns ({row.surplus})",
            "put a cell that holds the separator in quotes, or delete what is too much",
        )
    if {"\n", "\r"} & {*row.file, *row.label}:
        return (
            "has a line break in its filename or label",
            "write each on one line, and close its quotes",
        )
    if not clean(row.file) or not clean(row.label):
        return "must have a filename and a label", "fill it in, or delete it"
    return None


def _mistake_of_file(
    name: str, paths: Sequence[Path], seen: set[Path], place: Place
) -> tuple[str, str] | None:
    """What is wrong with the file that a row names, and the mend."""
    if not paths:
        mend = "put the file there, or delete the line"
        if Path(name).is_absolute() or "\\" in name or ":" in name:
            mend += ", or make its path relative to that folder"
        return f"names {name}, which is not in {place.folder}", mend
    if len(paths) > 1:
        several = " and ".join(path.name for path in paths)
        return f"names {name}, which may be {several}", "write the whole name"
    if paths[0] in seen:
        return f"names {name} again", "delete the line"
    return None


def _locate(name: str, table: Path, place: Place) -> list[Path]:
    """The files that a name may mean: one, as a rule."""
    for each in _spellings(name):
        if path := next(filter(os.path.isfile, _inside(each, table, place)), None):
            return [Path(path)]
    if Path(name.strip()).suffix.lower() in SUFFIXES:
        return []
    ends = [end for suffix in SUFFIXES for end in (suffix, suffix.upper())]
    paths = (path for end in ends for path in _inside(name.strip() + end, table, place))
    return [Path(path) for path in dict.fromkeys(paths) if os.path.isfile(path)]


def _spellings(name: str) -> Iterator[str]:
    """A path as it is written, and as it may be on this disk."""
    yield name
    yield (stripped := name.strip())
    yield from (unicodedata.normalize(form, stripped) for form in ("NFC", "NFD"))
    yield from_text(stripped)  # as labels have a name that is not text
    yield stripped.replace("\\", "/")  # as Windows has it
    if UPLOADS.match(stripped):
        yield (upload := unquote(UPLOADS.sub("", stripped)))
        folder, _, file = upload.rpartition("/")
        yield os.path.join(folder, DIGITS.sub("", file))


def _inside(name: str, table: Path, place: Place) -> Iterator[str]:
    """The places of a name that are in the folder of the files."""
    if "\0" in name:
        return
    up = ".." in name.split("/")
    for root in [str(table.parent)] if up else place.roots:
        path = os.path.abspath(os.path.join(root, name))
        for start in place.starts:
            if path.startswith(start):
                yield os.path.join(place.folder, path[len(start) :])
                break
