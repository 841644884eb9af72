"""The rows of a table: CSV of any usual separator and encoding, or JSON lines."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax.data.folders.columns import Columns, Role, choose, match
from metajax.data.folders.names import clean, counted
from metajax.errors import InputError

TABLES = (".csv", ".tsv", ".jsonl")
JSON_LINES = ".jsonl"
SEPARATORS = ",;\t|"
SHOWN = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
HEAD = 2**16  # bytes that are read to see whether a file is a table
# The mark of UTF-32 begins like that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Row(NamedTuple):
    """A row of a table, whose values are empty where it has none.

    Attributes:
      line: where it is in the file.
      file: its path.
      label: the class.
      split: see `metajax.data.folders.folder`.
      surplus: what is in its cells beyond the last column, if that has a role: a cell
        that holds the separator may have moved those after it.
    """

    line: int
    file: str
    label: str
    split: str
    surplus: str


class Rows(NamedTuple):
    """The rows of a table that are not blank.

    Attributes:
      columns: the name of each role's column, as it is written.
      rows: in order.
      lines: what a person should know, a line each.
    """

    columns: dict[Role, str]
    rows: list[Row]
    lines: tuple[str, ...]


class _Cells(NamedTuple):
    names: list[str]
    rows: list[tuple[int, list[str]]]


def read_rows(table: Path, columns: Columns | None) -> Rows:
    """Reads a table.

    Args:
      table: the file.
      columns: see `metajax.data.folders.columns.choose`.

    Returns:
      Its `Rows`.

    Raises:
      InputError: if it is no table, or not one of files and labels.
    """
    json_lines = table.suffix.lower() == JSON_LINES
    read = _json_lines if json_lines else _separated
    try:
        names, rows = read(table, _decode(table.read_bytes()), columns)
    except UnicodeError as error:
        raise InputError(
            f"{table} is not a table of UTF-8 or UTF-16 text ({error}); save it as "
            "UTF-8, as with iconv -f LATIN1 -t UTF-8"
        ) from error
    places = choose(table, names, columns)
    beyond, lines = _beyond(table, names, rows, places)
    chosen = [places.get(role, len(names)) for role in ("file", "label", "split")]

    def values(row: list[str]) -> Iterator[str]:
        return (row[i] if i < min(len(row), len(names)) else "" for i in chosen)

    return Rows(
        {role: names[i] for role, i in places.items()},
        [Row(i, *values(row), surplus=x) for (i, row), x in zip(rows, beyond)],
        lines,
    )


def _beyond(
    table: Path,
    names: Sequence[str],
    rows: Sequence[tuple[int, list[str]]],
    places: Mapping[Role, int],
) -> tuple[list[str], tuple[str, ...]]:
    """The surplus of each row, see `Row`; or a line on it, if it moves no role's cell.

    A last column without a role may hold several cells, as CUB's attributes do.
    """
    beyond = [", ".join(filter(clean, row[len(names) :])) for _, row in rows]
    count = sum(map(bool, beyond))
    if not count or len(names) - 1 in places.values():
        return beyond, ()
    line = (
        f"{counted(count, 'row')} of {table} with more cells than columns: what is "
        f"beyond the last column, {names[-1]}, is not read"
    )
    return [""] * len(rows), (line,)


def header_of(table: Path, columns: Columns | None) -> list[str]:
    """The names of a table's columns; none of a file that is no table.

    Only the beginning of the file is read.
    """
    try:
        with table.open("rb") as file:
            head = file.read(HEAD)
        text = _decode(head, cut=len(head) == HEAD)
        if table.suffix.lower() == JSON_LINES:
            return list(dict(json.loads(text.lstrip().partition("\n")[0])))
        return _header(text, _separators(text, columns)[0])
    except (OSError, ValueError, TypeError, RecursionError, csv.Error):
        return []


def _decode(content: bytes, *, cut: bool = False) -> str:
    """The text of a file, by the mark at its start; UTF-8 without one."""
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    text = codecs.getincrementaldecoder(encoding)().decode(content, final=not cut)
    if "\0" in text:
        raise UnicodeError("it holds bytes that are 0")
    return text


def _separated(table: Path, text: str, columns: Columns | None) -> _Cells:
    separators = _separators(text, columns)
    if len(separators) > 1:
        named = " and ".join(SHOWN[each] for each in separators)
        raise InputError(
            f"{table} can be read in several ways, with {named} between its columns; "
            "save it with one of them only"
        )
    reader = _reader(text, separators[0], strict=True)
    rows: list[tuple[int, list[str]]] = []
    end = 0  # the last line of the rows that were read
    try:
        for row in reader:
            end = reader.line_num
            if row:
                rows.append((end, row))
    except csv.Error as error:
        raise InputError(
            f"the row of {table} that begins in line {end + 1} cannot be read "
            f"({error}); close its quotes, and write a quote in a cell twice"
        ) from error
    names = rows[0][1] if rows else []
    return _Cells(names, rows[1:])


def _separators(text: str, columns: Columns | None) -> list[str]:
    """Those that give columns of files and labels; else the one with most columns."""
    headers = {separator: _header(text, separator) for separator in SEPARATORS}
    fits = []
    for separator, names in headers.items():
        places = match(names, columns)
        if places["file"] and places["label"]:
            fits.append(separator)
    return fits or [max(headers, key=lambda separator: len(headers[separator]))]


def _header(text: str, separator: str) -> list[str]:
    return next(filter(None, _reader(text, separator, strict=False)), [])


def _reader(text: str, separator: str, *, strict: bool) -> Any:
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, skipinitialspace=True, delimiter=separator, strict=strict)


def _json_lines(table: Path, text: str, columns: Columns | None) -> _Cells:
    del columns
    lines = enumerate(text.split("\n"), 1)
    objects = [(i, _object(table, i, line)) for i, line in lines if line.strip()]
    names = list(dict.fromkeys(name for _, row in objects for name in row))
    rows = [(i, [_plain(row.get(name)) for name in names]) for i, row in objects]
    return _Cells(names, rows)


def _object(table: Path, line: int, text: str) -> dict[str, object]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"line {line} of {table} is not JSON ({error}); correct it, or delete it"
        ) from error
    if not isinstance(row, dict):
        raise InputError(
            f"line {line} of {table} must be a JSON object, as in "
            '{"file_name": "1.png", "label": "cat"}; correct it, or delete it'
        )
    return row


def _plain(value: object) -> str:
    """The text of a value; none of a list, an object or null."""
    return str(value) if isinstance(value, str | int | float) else ""
