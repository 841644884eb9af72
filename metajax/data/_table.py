"""Tables of images in Ravi and Larochelle's form: a file name and a label a line."""

import codecs
import csv
import itertools
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metajax.data._names import Classes, clean
from metajax.errors import InputError

COLUMNS = ("filename", "label")
TABLE = ".csv"
SYNONYMS = {"file_name": "filename", "category": "label"}  # of Hugging Face, Meta-Album
SEPARATORS = ",;\t"


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
        with _opened(path) as reader:
            return set(COLUMNS) <= set(_columns(reader))
    except (OSError, UnicodeError, csv.Error):
        return False


@contextmanager
def _opened(table: Path) -> Iterator[csv.DictReader]:
    """A reader of a table, of the encoding and the separator that its start shows."""
    with table.open("rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if wide else "utf-8-sig"
    with table.open(newline="", encoding=encoding) as file:
        first = file.readline()
        separator = max(SEPARATORS, key=first.count)
        file.seek(0)
        yield csv.DictReader(file, skipinitialspace=True, delimiter=separator)


def _columns(reader: csv.DictReader) -> list[str]:
    names = [clean(name).casefold() for name in reader.fieldnames or ()]
    return [SYNONYMS.get(name, name) for name in names]


def _locate(filename: str, roots: list[Path]) -> Path | None:
    """The file of a name, in whichever Unicode form and of the first root it is in."""
    names = [filename, stripped := filename.strip()]
    names += [unicodedata.normalize(form, stripped) for form in ("NFC", "NFD")]
    names.append(stripped.replace("\\", "/"))  # as Windows has it
    if any(".." in Path(name).parts for name in names):
        return None
    pairs = itertools.product(names, roots)
    places = (place for name, root in pairs for place in _inside(name, root))
    return next(filter(os.path.isfile, places), None)


def _inside(name: str, root: Path) -> Iterator[Path]:
    """The place of a name in a folder, unless it is a whole path to another."""
    if not (path := Path(name)).is_absolute():
        yield root / path
    elif path.is_relative_to(root.absolute()):
        yield root / path.relative_to(root.absolute())


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    try:
        with _opened(table) as reader:
            columns = _columns(reader)
            if any(columns.count(name) != 1 for name in COLUMNS):
                raise InputError(
                    f"{table} must have the columns {','.join(COLUMNS)}, got "
                    f"{','.join(columns) or 'none'}; rename its columns"
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
    except (UnicodeError, csv.Error) as error:
        raise InputError(
            f"{table} is not a table of UTF-8 text ({error}); save it as one"
        ) from error
