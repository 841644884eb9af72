"""A table of labels that grows: a row is added as soon as there is one."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from metajax.errors import InputError
from metajax.labelling.answers import Label
from metajax.labelling.writing.forms import csv_line, csv_row, json_row


class Appended(NamedTuple):
    """How a form of tables grows.

    Attributes:
      head: what begins a new one.
      row: a label as a row.
      files: the files of the rows of a text; it raises ValueError for another text.
    """

    head: bytes
    row: Callable[[Label], bytes]
    files: Callable[[str], list[str]]


def check_appendable(flag: str, path: Path) -> None:
    """Refuses, before anything is computed, a table that cannot grow.

    Args:
      flag: what the command calls the path.
      path: of the table, which need not be there.

    Raises:
      InputError: if its suffix is neither .csv nor .jsonl, or it is of other columns.
    """
    if path.suffix.lower() not in APPENDED:
        raise InputError(
            f"{flag} of --watch is CSV (.csv) or JSON lines (.jsonl), got {path}; "
            "choose one of them"
        )
    labelled_files(path)


def labelled_files(path: Path) -> list[str]:
    """The files that a table names, which need not be there.

    Raises:
      InputError: if it is not one of this command, of these columns.
    """
    if not path.exists():
        return []
    form, content = APPENDED[path.suffix.lower()], _whole_rows(path.read_bytes())
    try:
        if content and not content.startswith(form.head):
            raise ValueError(f"its columns are not {', '.join(Label._fields)}")
        return form.files(content.decode())
    except ValueError as error:
        raise InputError(
            f"labels cannot be added to {path}, which this command did not write, or "
            f"an earlier version did ({error}); choose another name"
        ) from error


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Label], None]]:
    """Adds labels to a table, each at once; a row that a kill cut off is removed.

    Args:
      path: of the table, see `check_appendable`.

    Yields:
      A function that adds a label.

    Raises:
      OSError: if it cannot be written.
    """
    form = APPENDED[path.suffix.lower()]
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(end := len(_whole_rows(file.read())))
        file.write(b"" if end else form.head)
        file.flush()

        def add(label: Label) -> None:
            file.write(form.row(label))
            file.flush()

        yield add


def _whole_rows(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]


def _csv_files(text: str) -> list[str]:
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        return [row["file"] for row in rows]
    except csv.Error as error:
        raise ValueError(error) from error


def _json_files(text: str) -> list[str]:
    rows = [json.loads(line) for line in text.split("\n") if line]
    if not all(isinstance(row, dict) and [*row] == [*Label._fields] for row in rows):
        raise ValueError(f"its lines do not hold {', '.join(Label._fields)}")
    return [row["file"] for row in rows]


APPENDED = {
    ".csv": Appended(csv_line(Label._fields), csv_row, _csv_files),
    ".jsonl": Appended(b"", json_row, _json_files),
}
