"""Corrections: a table of pictures and their labels, beside those labelled before."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from metajax.data.folders._copies import repeats
from metajax.data.folders._listing import Listing
from metajax.data.folders.names import (
    Classes,
    clean,
    counted,
    from_text,
    join_names,
    some,
)
from metajax.data.folders.report import copied
from metajax.data.folders.table import Named, place_of, read_table
from metajax.errors import InputError


class Corrections(NamedTuple):
    """A table of pictures and their labels, as the page of labels saves it.

    Attributes:
      table: the file, see `metajax.data.folders.folder`.
      folders: that its paths may be below: all of them below the same one, the first
        that holds them.
    """

    table: Path
    folders: Sequence[Path]


def add_corrections(listing: Listing, corrections: Corrections) -> Listing:
    """Adds corrected pictures to labelled ones.

    A correction wins: a labelled picture of the same bytes is left out.

    Args:
      listing: of the labelled pictures.
      corrections: the table.

    Returns:
      A listing of both, with a line on what was left out.

    Raises:
      InputError: if the table is not there, is none, or names no pictures.
    """
    folder = Path(os.path.abspath(listing.folder))
    named = _read(corrections)
    before = _absolute(listing.classes)

    def known(name: str) -> str:
        name = clean(name)
        return other if (other := from_text(name)) in before else name

    own, _ = join_names(_absolute(named.classes), known)
    _, joined = join_names(dict.fromkeys([*before, *named.classes], ()), known)
    lines = [line for line in joined if line not in listing.lines]
    corrected = [path for files in own.values() for path in files]
    again = repeats([path for files in before.values() for path in files], corrected)
    classes = {
        name: sorted(set(before.get(name, [])) - again) + own.get(name, [])
        for name in sorted({*before, *own})
    }
    if again:
        names = some(os.path.relpath(path, folder) for path in sorted(again))
        lines.append(
            f"{counted(len(again), 'labelled picture')} in {corrections.table} again, "
            f"whose label is taken: {names}"
        )
    lines += [*named.lines, *copied(own, folder)]
    return replace(
        listing,
        folder=folder,
        classes={name: files for name, files in classes.items() if files},
        lines=(*listing.lines, *lines),
        faults=(*listing.faults, *named.faults),
    )


def _read(corrections: Corrections) -> Named:
    """The table, below the first folder that holds all its files; else the first."""
    table, folders = corrections
    if not table.is_file():
        raise InputError(
            f"expected a table of corrections at {table}, which is not a file; save "
            "it from the page of --html"
        )
    # A table of Label Studio names a file with the folder that holds it.
    places = [place_of(folder, [folder, folder.parent]) for folder in folders]
    first, *others = places
    named = read_table(table, first)
    again = (read_table(table, place) for place in others if named.faults)
    return next((other for other in again if not other.faults), named)


def _absolute(classes: Classes) -> Classes:
    """The files by paths that do not depend on the folder that they are in."""
    return {
        name: [Path(os.path.abspath(path)) for path in files]
        for name, files in classes.items()
    }
