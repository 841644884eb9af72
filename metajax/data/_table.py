"""Tables of images in Ravi and Larochelle's form: a file name and a label a line."""

import csv
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from metajax.data._names import Classes, clean
from metajax.errors import InputError

COLUMNS = ("filename", "label")
TABLE = ".csv"


def read_table(table: Path, roots: list[Path]) -> Classes:
    """The files of each label, as it is written.

    Args:
      table: a CSV file.
      roots: the folders that its files may be in.

    Raises:
      InputError: if a line has a mistake, or names a file that is not there.
    """
    classes: Classes = {}
    seen: set[Path] = set()
    for line, filename, label in _rows(table):
        path = _locate(filename, roots)
        if path is None:
            raise InputError(
                f"line {line} of {table} names {filename}, which is not in {roots[0]}: "
                "put it there, or delete the line"
            )
        if path in seen:
            raise InputError(
                f"line {line} of {table} names {filename} again; delete the line"
            )
        seen.add(path)
        classes.setdefault(label, []).append(path)
    if not classes:
        raise InputError(f"{table} names no images; expected a line for each")
    return classes


def is_table(path: Path) -> bool:
    """Whether a file is a table of images, with or without mistakes."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return set(COLUMNS) <= set(_columns(csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _columns(reader: csv.DictReader) -> list[str]:
    return [clean(name).casefold() for name in reader.fieldnames or ()]


def _locate(filename: str, roots: list[Path]) -> Path | None:
    """The file of a name, in whichever Unicode form and of the first root it is in."""
    names = [filename, filename.strip()]
    names += [unicodedata.normalize(form, filename.strip()) for form in ("NFC", "NFD")]
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        return None
    places = (root / name for name in names for root in roots)
    return next(filter(os.path.isfile, places), None)


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = _columns(reader)
            if any(columns.count(name) != 1 for name in COLUMNS):
                raise InputError(
                    f"{table} must have the columns {','.join(COLUMNS)}, got "
                    f"{','.join(columns) or 'none'}"
                )
            reader.fieldnames = columns
            for row in reader:
                filename, label = (row[name] or "" for name in COLUMNS)
                if not clean(filename) or not clean(label):
                    raise InputError(
                        f"line {reader.line_num} of {table} must have a filename and a "
                        "label; fill it in, or delete it"
                    )
                yield reader.line_num, filename, label
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table} is not a table of UTF-8 text ({error}); save it as one"
        ) from error
