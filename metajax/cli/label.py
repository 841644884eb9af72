"""`metajax label`: labels for a folder of pictures, from a few that are labelled."""

import csv
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metajax.cli.label_files import classes_of, export, save
from metajax.cli.label_page import Shown, label_page
from metajax.cli.labeller import (
    Labeller,
    check_finite,
)
from metajax.data.listing import Loose, list_loose
from metajax.data.unlabelled import Decoded, Unreadable, decode_ahead
from metajax.errors import InputError
from metajax.files import write_blocks, write_whole

BATCH = 64  # pictures at a time
SECONDS = 10.0  # between two lines of progress
KINDS = 5  # of other files, named


@dataclass(frozen=True)
class Targets:
    """What is to be written, and where the pictures are that are to be labelled."""

    images: Path | None = None
    out: Path | None = None
    html: Path | None = None
    save: Path | None = None
    export: Path | None = None

    def check(self) -> Loose:
        """Refuses, before anything is computed, what would fail at the end.

        Returns:
          The pictures to label, and what else is in the folder of them.

        Raises:
          InputError: if a path will not do, or nothing was asked for, or there are no
            pictures.
        """
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
        files = self._files()
        for name, path in files.items():
            _check_writable(name, path)
        named: dict[Path, list[str]] = {}
        for name, path in files.items():
            named.setdefault(path.parent.resolve() / path.name, []).append(name)
        for path, names in named.items():
            if len(names) > 1:
                raise InputError(
                    f"{' and '.join(names)} must be different files, and are {path}"
                )
        return Loose([], Counter()) if self.images is None else list_loose(self.images)

    def _files(self) -> dict[str, Path]:
        files = {
            "--out": self.out,
            "the list of what --out could not read": self.out and refused_of(self.out),
            "--html": self.html,
            "--save": self.save,
            "--export": self.export,
            "the classes of --export": self.export and classes_of(self.export),
        }
        return {name: path for name, path in files.items() if path is not None}


def refused_of(out: Path) -> Path:
    """Where the pictures are listed that could not be read."""
    return out.parent / f"{out.stem}.unreadable.csv"


def _check_writable(name: str, path: Path) -> None:
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{name} must be a file, and {path} is a folder")
    if not folder.is_dir():
        raise InputError(f"{name} is in {folder}, which is no folder; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{name} is in {folder}, where nothing may be written")


def label(labeller: Labeller, targets: Targets, found: Loose) -> None:
    """Writes what was asked for.

    Args:
      labeller: what labels.
      targets: what is to be written.
      found: the pictures, as `targets.check` lists them.
    """
    if targets.save is not None:
        save(labeller, targets.save)
        print(f"saved to {targets.save}")
    if targets.export is not None:
        print(export(labeller, targets.export))
    if targets.images is not None and targets.out is not None:
        others = _passed_over(found.others)
        print(f"labelling {len(found.names)} pictures{others}", file=sys.stderr)
        labels = Labels(labeller, targets.images, Shown() if targets.html else None)
        write_blocks(targets.out, labels.lines(found.names))
        labels.say()
        print(f"{labels.counts.total()} labels written to {targets.out}")
        labels.write_refused(refused_of(targets.out))
        labels.write_page(targets.html)


def _passed_over(others: Counter[str]) -> str:
    if not others:
        return ""
    kinds = [kind for kind, _ in others.most_common(KINDS)]
    more = ["..."] if len(others) > KINDS else []
    count = others.total()
    are = "other file is" if count == 1 else "other files are"
    return f"; {count} {are} passed over ({', '.join(kinds + more)})"


class Row(NamedTuple):
    """What is said of a picture."""

    file: str
    label: str
    confidence: float
    runner_up: str
    runner_up_confidence: float

    def line(self) -> bytes:
        """As CSV."""
        shares = (f"{self.confidence:.4f}", f"{self.runner_up_confidence:.4f}")
        return _line((self.file, self.label, shares[0], self.runner_up, shares[1]))


class Labels:
    """The labels of a folder as they are made: counted, and shown if asked for.

    Args:
      labeller: what labels.
      folder: of the pictures.
      shown: takes them, for the page.
    """

    def __init__(self, labeller: Labeller, folder: Path, shown: Shown | None):
        self.counts: Counter[str] = Counter()
        self._refused: list[Unreadable] = []
        self._labeller, self._folder, self._shown = labeller, folder, shown

    def lines(self, files: Sequence[str]) -> Iterator[bytes]:
        """The table, a batch of lines at a time."""
        look = self._labeller.look
        batches = decode_ahead(
            self._folder,
            files,
            look.size,
            look.mode,
            batch=BATCH,
            refuse=self._refused.append,
        )
        yield _line(Row._fields)
        for batch in _reported(batches, len(files)):
            rows = _told(self._labeller, batch)
            self.counts.update(row.label for row in rows)
            if self._shown is not None:
                for row, image in zip(rows, batch.images):
                    self._shown.offer(row, image)
            yield b"".join(row.line() for row in rows)

    def say(self) -> None:
        """Prints how many have each label."""
        for name in self._labeller.classes:
            print(f"{self.counts[name]:>8} {name}")

    def write_refused(self, path: Path) -> None:
        """Writes what could not be read; of nothing, no file, nor an earlier one."""
        if not self._refused:
            path.unlink(missing_ok=True)
            return
        write_blocks(path, [_line(Unreadable._fields), *map(_line, self._refused)])
        print(f"{len(self._refused)} could not be read: listed in {path}")

    def write_page(self, path: Path | None) -> None:
        """Writes the page, if there is to be one."""
        if path is None or self._shown is None:
            return
        labeller, count = self._labeller, self.counts.total()
        facts = {
            "pictures": f"{count} of {self._folder}",
            "could not be read": len(self._refused),
            "learner": labeller.config.learner,
            "taught by": (
                f"{labeller.support} pictures of {len(labeller.classes)} classes"
            ),
            "expect": labeller.expected,
        }
        counts = {name: self.counts[name] for name in labeller.classes}
        text = label_page(self._shown, counts, facts, self._refused)
        write_whole(path, text.encode(errors="backslashreplace"))
        print(f"shown in {path}{self._shown.cut(count)}")


def _line(values: Iterable[str]) -> bytes:
    """A row of CSV; what of a name is no text is written as its code."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode(errors="backslashreplace")


def _told(labeller: Labeller, batch: Decoded) -> list[Row]:
    """The rows of a batch."""
    shares = np.asarray(labeller.shares(batch.images))[: len(batch.files)]
    check_finite(shares)
    first, second = np.argsort(-shares, axis=1, kind="stable")[:, :2].T
    names = labeller.classes
    return [
        Row(file, names[a], float(p[a]), names[b], float(p[b]))
        for file, p, a, b in zip(batch.files, shares, first, second)
    ]


def _reported(batches: Iterable[Decoded], count: int) -> Iterator[Decoded]:
    """The batches, with a line now and then of how many are done."""
    done, said = 0, time.monotonic()
    for batch in batches:
        yield batch
        done += len(batch.files)
        if time.monotonic() - said > SECONDS:
            said = time.monotonic()
            print(f"{done} of {count}", file=sys.stderr)
