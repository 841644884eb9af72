"""What `metajax label` is to write, checked before anything is computed."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from metajax._files.writing import check_writable, is_stdout, writable_place
from metajax.data._table import is_table
from metajax.data.decoding import FORMATS
from metajax.data.listing import Loose, list_loose
from metajax.data.unlabelled import Unreadable
from metajax.errors import InputError
from metajax.experiments.owned import run_of
from metajax.labelling.saved import classes_of

LIST = "the list of what --out could not read"


@dataclass(frozen=True)
class Targets:
    """What is to be written, and where the pictures are that are to be labelled.

    Attributes:
      images: the folder of the pictures.
      out: of the labels.
      html: of the page.
      save: of what was learnt.
      export: of the program.
      source: the file that is labelled from.
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
          The pictures to label, and what else is in the folder of them.

        Raises:
          InputError: if a path will not do, or is of a file that is read, or nothing
            was asked for, or there are no pictures.
        """
        self._check_asked()
        if self.out is not None:
            check_writable("--out", self.out)
        files = self._files()
        for name, path in files.items():
            check_writable(name, path)
        _check_different(files)
        for name, path in files.items():
            _check_of_no_run(name, path)
            if path.is_file():
                self._check_spared(name, path)
        return Loose([], ()) if self.images is None else list_loose(self.images)

    def stdout_apart(self) -> AbstractContextManager:
        """Prints to standard error while standard output is a file to write."""
        if any(map(is_stdout, self._files().values())):
            return redirect_stdout(sys.stderr)
        return nullcontext()

    def _check_asked(self) -> None:
        if (self.images is None) != (self.out is None):
            given, wanted = (
                ("--images", "--out") if self.images else ("--out", "--images")
            )
            raise InputError(f"{given} needs {wanted}: pictures in, their labels out")
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

    def _files(self) -> dict[str, Path]:
        files = {
            "--out": self.out,
            LIST: self.out and refused_of(self.out),
            "--html": self.html,
            "--save": self.save,
            "--export": self.export,
            "the classes of --export": self.export and classes_of(self.export),
        }
        return {name: path for name, path in files.items() if path is not None}

    def _check_spared(self, name: str, path: Path) -> None:
        """Refuses to write over a file that is read, or that nothing here wrote."""
        if self.source is not None and path.samefile(self.source):
            what = "the file given by --from"
        elif _is_picture(path):
            what = "a picture"
        elif is_table(path):
            what = "a table of labelled pictures"
        elif name == LIST and path.stat().st_size and not _is_list(path):
            what = "another file"
        else:
            return
        raise InputError(
            f"{name} would be written over {path}, which is {what}; choose another name"
        )


def refused_of(out: Path) -> Path | None:
    """Where the pictures are listed that could not be read.

    Args:
      out: of the labels.

    Returns:
      A file beside it; None beside a stream.
    """
    if writable_place(out) is None:
        return None
    return out.parent / f"{out.stem}.unreadable.csv"


def _check_of_no_run(name: str, path: Path) -> None:
    """Refuses a file of any run, also one that it has not written yet."""
    if writable_place(path) is None or (run := run_of(path)) is None:
        return
    raise InputError(
        f"{name} would be written over {path}, which is kept for a file of the run in "
        f"{run}; choose another name"
    )


def _check_different(files: dict[str, Path]) -> None:
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


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().strip() == ",".join(Unreadable._fields).encode()
