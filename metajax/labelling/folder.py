"""`metajax label`: labels for a folder of pictures, from a few that are labelled."""

import csv
import io
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metajax._files.writing import write_blocks, write_whole
from metajax.data._survey import survey
from metajax.data.listing import Loose, warn_each
from metajax.data.unlabelled import Decoded, Unreadable, decode_ahead
from metajax.labelling.labeller import (
    Labeller,
    check_finite,
)
from metajax.labelling.outputs import Targets, refused_of
from metajax.labelling.page import Shown, label_page
from metajax.labelling.saved import export, save

BATCH = 64  # pictures at a time
SECONDS = 10.0  # between two lines of progress


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
        warn_each(found.lines)
        print(f"labelling {len(found.names)} pictures", file=sys.stderr)
        labels = Labels(labeller, targets.images, Shown() if targets.html else None)
        write_blocks(targets.out, labels.lines(found.names))
        labels.say()
        print(f"{labels.counts.total()} labels written to {targets.out}")
        labels.write_refused(refused_of(targets.out))
        labels.write_page(targets.html)


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
        bits = _bits(self._labeller.bits, self._folder, files)
        batches = decode_ahead(
            self._folder,
            files,
            look.size,
            look.mode,
            batch=BATCH,
            refuse=self._refused.append,
            bits=bits,
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

    def write_refused(self, path: Path | None) -> None:
        """Writes what could not be read; of nothing, no file, nor an earlier one.

        Args:
          path: of the list; None to warn of each in its place.
        """
        if path is None:
            warn_each(f"{file} {reason}" for file, reason in self._refused)
            return
        rows = [_line(Unreadable._fields), *map(_line, self._refused)]
        if self._refused:
            write_blocks(path, rows)
            print(f"{len(self._refused)} could not be read: listed in {path}")
        elif path.is_symlink() and path.exists():
            write_blocks(path, rows)
        elif path.is_file():
            path.unlink()

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


def _bits(taught: int | None, folder: Path, files: Sequence[str]) -> int | None:
    """The bits that pictures of 16 use, of which those that taught used some."""
    bits, lines = survey(folder, [folder / file for file in files], taught)
    warn_each(lines)
    if taught is not None and bits is not None and bits > taught:
        warn_each(
            [
                f"pictures of {folder} use {bits} bits, and the labelled ones were "
                f"read as of {taught}, so brighter; label brighter ones too"
            ]
        )
    return bits


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
