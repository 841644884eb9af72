"""Which column of a table says what, by the names that people give them."""

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from metajax.data.folders.names import clean
from metajax.errors import InputError, argument

Role = Literal["file", "label", "split"]
Columns = Mapping[str, str]
"""The column of each role, "file", "label" or "split", by its name in the table."""

# Without spaces, hyphens and underscores, in small letters.
SYNONYMS: dict[Role, frozenset[str]] = {
    "file": frozenset(
        "filename file files filepath path fullpath image images imagename imagefile "
        "imagefilename imagepath imageid img imgname imgfile imgpath imgid picture "
        "photo".split()
    ),
    "label": frozenset(
        "label labels labelname class classes classname classlabel category categories "
        "categoryname target targets targetname choice choices tag".split()
    ),
    "split": frozenset("split splits subset partition".split()),
}
WORDS = {"file": "files", "label": "labels", "split": "splits"}


def parse_columns(text: str | None) -> Columns | None:
    """The columns of a text such as `file=photo,label=breed`.

    Args:
      text: a role and a column's name each; a pair is quoted if the name has a comma.

    Returns:
      The column of each role; None of None.

    Raises:
      InputError: if the text is of another form.

    >>> parse_columns('file=photo,"label=breed, if known"')
    {'file': 'photo', 'label': 'breed, if known'}
    """
    if text is None:
        return None
    pairs = [part.partition("=") for part in next(csv.reader([text]), [])]
    columns = {role.strip(): name.strip() for role, _, name in pairs}
    if len(columns) != len(pairs):
        raise InputError(
            f"{argument('columns')} must name each column once, got {text}"
        )
    return check_columns(columns)


def check_columns(columns: Columns | None) -> Columns | None:
    """Returns the columns that a person names, if they are of roles that there are.

    Raises:
      InputError: if they are not.
    """
    if columns is None:
        return None
    named = isinstance(columns, Mapping) and columns
    if not named or not all(
        role in SYNONYMS and isinstance(name, str) and clean(name)
        for role, name in columns.items()
    ):
        raise InputError(
            f"{argument('columns')} must name the column of file, label or split, or "
            f"of several, as in {_example()}, got {columns!r}"
        )
    return columns


def match(names: Sequence[str], columns: Columns | None) -> dict[Role, list[int]]:
    """The columns of a table that may have each role.

    Args:
      names: of all columns, as they are written.
      columns: those that a person names, which then have their role alone.

    Returns:
      Their places; none where no column fits.
    """
    cleaned = [clean(name) for name in names]
    named = {role: _places_of(name, cleaned) for role, name in (columns or {}).items()}
    taken = set(chain.from_iterable(named.values()))
    plain = [re.sub(r"[\s_-]+", "", name.casefold()) for name in cleaned]
    fitting: dict[Role, list[int]] = {
        role: [i for i, x in enumerate(plain) if x in synonyms and i not in taken]
        for role, synonyms in SYNONYMS.items()
    }
    return {role: named.get(role, places) for role, places in fitting.items()}


def _places_of(name: str, cleaned: Sequence[str]) -> list[int]:
    """The columns of a name as it is written; else in whichever case."""
    name = clean(name)
    exact = [i for i, x in enumerate(cleaned) if x == name]
    folded = [i for i, x in enumerate(cleaned) if x.casefold() == name.casefold()]
    return exact or folded


def choose(
    table: Path, names: Sequence[str], columns: Columns | None
) -> dict[Role, int]:
    """The column of each role: of files and labels one each, of splits one or none.

    Raises:
      InputError: if no column fits, or several do.
    """
    places, written = match(names, columns), ", ".join(names) or "none"
    for role in places:
        _check_one(table, role, [names[i] for i in places[role]])
    missing: list[Role] = [role for role in places if not places[role]]
    if wrong := [role for role in missing if role in (columns or {})]:
        raise InputError(
            f"{table} has no column {(columns or {})[wrong[0]]!r} for "
            f"{WORDS[wrong[0]]}; its columns are {written}: change "
            f"{argument('columns')}"
        )
    if {"file", "label"} & set(missing):
        raise InputError(
            f"{table} must have the columns filename and label, or others that mean "
            f"the same; it has none for {_words(missing)}, got "
            f"{written}: rename its columns, or say which they are by {_example()}"
        )
    return {role: fitting[0] for role, fitting in places.items() if fitting}


def _words(roles: Sequence[Role]) -> str:
    return " and ".join(WORDS[role] for role in roles if role != "split")


def _check_one(table: Path, role: Role, names: Sequence[str]) -> None:
    if len(names) > 1:
        raise InputError(
            f"{table} can be read in several ways, as its columns "
            f"{' and '.join(names)} may all be those of {WORDS[role]}; rename all but "
            f"one, or say which it is by {_example()}"
        )


def _example() -> str:
    return argument("columns_example", 'columns={"file": "NAME", "label": "NAME"}')
