"""What `metajax label` writes: checked before anything is computed, then written."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TypeVar

from PIL import Image

from metajax._files.writing import (
    check_writable,
    is_stdout,
    writable_place,
    write_blocks,
    write_whole,
)
from metajax.data._table import is_table
from metajax.data.decoding import FORMATS
from metajax.data.listing import Loose, list_loose, warn_each
from metajax.data.unlabelled import Unreadable
from metajax.errors import InputError
from metajax.experiments.labelled import blaming
from metajax.experiments.owned import run_of
from metajax.labelling import PLATFORMS, FolderLabels, Label, Labeller, export, save
from metajax.labelling.folder import csv_line
from metajax.labelling.page import MOST
from metajax.labelling.saved import classes_of

LIST = "the list of what --out could not read"
T = TypeVar("T")
SECONDS = 10.0  # between two lines of progress


@dataclass(frozen=True)
class LabelFiles:
    """The files that `metajax label` reads and writes.

    Attributes:
      images: the folder of the images to label.
      out: the table of labels.
      html: the page.
      save: the labeller.
      export: the program.
      source: the file that the labeller is read from.
    """

    images: Path | None = None
    out: Path | None = None
    html: Path | None = None
    save: Path | None = None
    export: Path | None = None
    source: Path | None = None

    def check(self) -> Loose:
        """Refuses, before anything is computed, what would fail at the end.

        Returns:
          The images to label, and what else is in their folder.

        Raises:
          InputError: if a path cannot be written, or is of a file that is read, or
            nothing was asked for, or there are no images.
        """
        self._check_asked()
        if self.out is not None:
            check_writable("--out", self.out)
        files = self._written()
        for name, path in files.items():
            check_writable(name, path)
        check_different(files)
        for name, path in files.items():
            check_outside_runs(name, path)
            fields = Unreadable._fields if name == LIST else Label._fields
            check_replaceable(name, path, fields, self.source)
        if self.images is None:
            return Loose([], ())
        with blaming("--images"):
            return list_loose(self.images)

    def write(self, labeller: Labeller, images: Loose) -> None:
        """Writes the files that were asked for.

        Args:
          labeller: the labeller.
          images: what `check` returned.
        """
        if self.save is not None:
            save(labeller, self.save)
            print(f"saved to {self.save}")
        if self.export is not None:
            export(labeller, self.export)
            print(
                f"exported to {self.export} for {' and '.join(PLATFORMS)}; "
                f"{classes_of(self.export)} names its classes"
            )
        if self.images is None or self.out is None:
            return
        warn_each(images.lines)
        print(f"labelling {len(images.names)} pictures", file=sys.stderr)
        shown = MOST if self.html else 0
        labels = FolderLabels(labeller, self.images, images.names, shown=shown)
        lines = labels.table()
        heading = next(lines)
        report = reported(lines, len(images.names))
        write_blocks(self.out, chain([heading], report))
        for name in labeller.classes:
            print(f"{labels.counts[name]:>8} {name}")
        print(f"{labels.counts.total()} labels written to {self.out}")
        write_unreadable(unreadable_list(self.out), labels.unreadable)
        if self.html is not None:
            page = labels.page().encode(errors="backslashreplace")
            write_whole(self.html, page)
            print(f"shown in {self.html}{labels.gallery.excerpt()}")

    def stdout_apart(self) -> AbstractContextManager:
        """Prints to standard error while standard output is a file to write."""
        if any(map(is_stdout, self._written().values())):
            return redirect_stdout(sys.stderr)
        return nullcontext()

    def _check_asked(self) -> None:
        if (self.images is None) != (self.out is None):
            flag = "--out" if self.images else "--images"
            other = "--images" if self.images else "--out"
            raise InputError(f"{other} needs {flag}: pictures in, their labels out")
        if self.html is not None and self.out is None:
            raise InputError(
                "--html needs --images and --out: it shows what they label"
            )
        if self.images is None and self.save is None and self.export is None:
            raise InputError(
                "expected --images DIR with --out FILE, or --save or --export FILE; "
                "got none of them"
            )
        if self.export is not None and find_spec("flatbuffers") is None:
            raise InputError("--export needs flatbuffers: pip install flatbuffers")

    def _written(self) -> dict[str, Path]:
        files = {
            "--out": self.out,
            LIST: self.out and unreadable_list(self.out),
            "--html": self.html,
            "--save": self.save,
            "--export": self.export,
            "the classes of --export": self.export and classes_of(self.export),
        }
        return {name: path for name, path in files.items() if path is not None}


def unreadable_list(out: Path) -> Path | None:
    """The file beside labels that lists the images without a label.

    Args:
      out: the table, or another file or folder of labels.

    Returns:
      The file; None if the table is a stream.
    """
    if not out.is_dir() and writable_place(out) is None:
        return None
    return out.parent / f"{out.stem}.unreadable.csv"


def check_replaceable(
    name: str, path: Path, fields: Sequence[str], source: Path | None = None
) -> None:
    """Refuses to write over a file that is read, or is not of this command.

    Args:
      name: what the command calls the path.
      path: of the file, which need not be there.
      fields: of a table that the command writes there.
      source: the file that a labeller is read from.

    Raises:
      InputError: if it would.
    """
    if not path.is_file():
        return
    if source is not None and path.samefile(source):
        what = "the file given by --from"
    elif _is_picture(path):
        what = "a picture"
    elif is_table(path) and not _is_own(path, fields):
        what = "a table, and not one of this command"
    else:
        return
    raise InputError(
        f"{name} would be written over {path}, which is {what}; choose another name"
    )


def check_outside_runs(name: str, path: Path) -> None:
    """Refuses a path that a run has, or will have, for a file of its own.

    Raises:
      InputError: if it is one.
    """
    is_stream = not path.is_dir() and writable_place(path) is None
    if is_stream or (run := run_of(path)) is None:
        return
    raise InputError(
        f"{name} would be written over {path}, which is kept for a file of the run in "
        f"{run}; choose another name"
    )


def check_different(files: dict[str, Path]) -> None:
    """Refuses one file by two names.

    Raises:
      InputError: if there is one.
    """
    named: dict[str, list[str]] = {}
    for name, path in files.items():
        named.setdefault(os.path.realpath(path), []).append(name)
    for path, names in named.items():
        if len(names) > 1:
            raise InputError(
                f"{' and '.join(names)} must be different files, and are {path}"
            )


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS):
            return True
    except Exception:  # a damaged file makes Pillow raise almost anything
        return False


def _is_own(path: Path, fields: Sequence[str]) -> bool:
    """Whether a file begins as a table of these fields."""
    with path.open("rb") as file:
        return file.readline().strip() == csv_line(fields).strip()


def write_unreadable(path: Path | None, unreadable: list[Unreadable]) -> None:
    """Writes the list of images that could not be read; if it is empty, no file.

    A list of an earlier command is removed then.

    Args:
      path: of the list; None to warn of each image instead.
      unreadable: the images, and why.
    """
    if path is None:
        warn_each(f"{file} {reason}" for file, reason in unreadable)
        return
    rows = [csv_line(Unreadable._fields), *map(csv_line, unreadable)]
    if unreadable:
        write_blocks(path, rows)
        print(f"{len(unreadable)} could not be read: listed in {path}")
    elif path.is_symlink() and path.exists():
        write_blocks(path, rows)
    elif path.is_file():
        path.unlink()


def reported(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, of so many, saying now and then how many are done."""
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said > SECONDS:
            said = time.monotonic()
            print(f"{done} of {count}", file=sys.stderr)
        yield item
