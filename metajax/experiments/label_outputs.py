"""What `metajax label` writes: checked before anything is computed, then written."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import numpy as np

from metajax._files.writing import (
    check_writable,
    is_stdout,
    writable_place,
    write_blocks,
    write_whole,
)
from metajax.checks import check_count
from metajax.data.folders.listing import Loose, list_loose, warn_each
from metajax.data.pictures.unlabelled import Unreadable
from metajax.errors import InputError
from metajax.experiments.label_checks import (
    check_apart,
    check_different,
    check_outside_runs,
    check_replaceable,
    is_labels,
    is_list,
)
from metajax.experiments.label_forms import WRITERS
from metajax.experiments.labelled import blaming
from metajax.labelling import (
    PLATFORMS,
    FolderLabels,
    Label,
    Labeller,
    export,
    read_truth,
    save,
    score,
    suggest,
)
from metajax.labelling.saved import classes_of
from metajax.labelling.trust.comparison import describe_guess
from metajax.labelling.writing.forms import TABLES, Form, LabelSource, csv_line
from metajax.labelling.writing.page import MOST

LIST = "the list of what --out could not read"
SURE = "so many are right if confidences are true, which --truth of some would show"
STRANGERS = "have a novelty above 0.5, and may be of no labelled class"
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
      read: the flags of other files that are read, and those files.
      others: the labels again, in the form of each flag of `WRITERS`.
      none: whether pictures may get the label that they are of no class.
      suggestions: how many pictures to suggest for labelling next.
      truth: the true labels, see `labelling.read_truth`.
    """

    images: Path | None = None
    out: Path | None = None
    html: Path | None = None
    save: Path | None = None
    export: Path | None = None
    read: Sequence[tuple[str, Path]] = ()
    others: Mapping[str, Path] = field(default_factory=dict)
    none: bool = False
    suggestions: int = 0
    truth: Path | None = None

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
        for name, path in self.others.items():
            WRITERS[name].check(name, path, self.images or Path())
        everything = {**files, **self.others}
        check_different(everything)
        check_apart(everything)
        for name, path in everything.items():
            check_outside_runs(name, path)
        read = [*self.read, *([("--truth", self.truth)] if self.truth else [])]
        for name, path in everything.items():
            known = is_list if name == LIST else is_labels
            check_replaceable(name, path, known, read)
        if self.out is not None:
            form_of(self.out)
        if self.truth is not None:
            self._truth()
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
        if self.images is None:
            return
        warn_each(images.lines)
        print(f"labelling {len(images.names)} pictures", file=sys.stderr)
        shown = MOST if self.html else 0
        labels = FolderLabels(
            labeller,
            self.images,
            images.names,
            shown=shown,
            none=self.none,
            remember=bool(self.truth or self.suggestions),
        )
        source = LabelSource(self.images, labeller.classes, labeller.source.name)
        self._write_labels(reported(labels, len(images.names)), source)
        for name in labels.names:
            print(f"{labels.counts[name]:>8} {name}")
        for path in self._of_labels().values():
            print(f"{labels.counts.total()} labels written to {path}")
        for line in self._remarks(labels):
            print(line)
        write_unreadable(self._list(), labels.unreadable)
        if self.html is not None:
            page = labels.page().encode(errors="backslashreplace")
            write_whole(self.html, page)
            print(f"shown in {self.html}{labels.gallery.excerpt()}")

    def _remarks(self, labels: FolderLabels) -> list[str]:
        """What is said of labels that were made."""
        lines = []
        if (sure := labels.mean_confidence()) is not None:
            lines.append(f"mean confidence {100 * sure:.0f} %: {SURE}")
        if labels.kept:
            lines.append(f"{labels.kept} of them are labelled, and keep their labels")
        if labels.strange and not describe_guess(labels.labeller):
            lines.append(f"{labels.strange} of them {STRANGERS}")
        answers = [answer for answer in labels.remembered if not answer.kept]
        if self.truth is not None:
            truth = self._truth()
            lines += score([x.label for x in answers], truth, labels.labeller.classes)
        if self.suggestions and answers:
            shares = np.stack([answer.probabilities for answer in answers])
            chosen = suggest(shares, self.suggestions)
            lines += [f"label next: {answers[i].label.file}" for i in chosen]
        return lines

    def _truth(self) -> Callable[[str], str | None]:
        with blaming("--truth"):
            return read_truth(self.truth or Path(), self.images or Path())

    def _write_labels(self, labels: Iterable[Label], source: LabelSource) -> None:
        """Writes the labels in every form, in one pass over the pictures."""
        kept: list[Label] = []

        def passed() -> Iterator[Label]:
            for label in labels:
                if self.others:
                    kept.append(label)
                yield label

        if self.out is not None:
            write_blocks(self.out, form_of(self.out).blocks(passed(), source))
        else:
            deque(passed(), maxlen=0)
        for flag, path in self.others.items():
            WRITERS[flag].write(path, kept, source)

    def stdout_apart(self) -> AbstractContextManager:
        """Prints to standard error while standard output is a file to write."""
        files = {**self._written(), **self.others}
        if any(map(is_stdout, files.values())):
            return redirect_stdout(sys.stderr)
        return nullcontext()

    def _of_labels(self) -> dict[str, Path]:
        """The files of labels, by their flags; the table first."""
        return {**({} if self.out is None else {"--out": self.out}), **self.others}

    def _list(self) -> Path | None:
        """The list of what could not be read, beside the first file of labels."""
        return next(map(unreadable_list, self._of_labels().values()), None)

    def _check_asked(self) -> None:
        asked = self._of_labels()
        if self.images is not None and not asked:
            raise InputError("--images needs --out: pictures in, their labels out")
        if self.images is None and asked:
            flag = next(iter(asked))
            raise InputError(f"{flag} needs --images: pictures in, their labels out")
        if not asked and (self.suggestions or self.truth is not None):
            raise InputError(
                "--suggest and --truth need --images and --out: they are of labels"
            )
        check_count("--suggest", self.suggestions, least=0)
        if self.html is not None and not asked:
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
            LIST: self._list(),
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


def form_of(out: Path) -> Form:
    """The form of a table of labels, by the suffix of its file.

    Raises:
      InputError: if there is none for it.
    """
    suffix = "" if writable_place(out) is None else out.suffix.lower()
    if suffix not in TABLES:
        raise InputError(
            f"--out is CSV (.csv) or JSON lines (.jsonl), got {out}; choose one of "
            "them, or --label-studio or --coco for JSON"
        )
    return TABLES[suffix]


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
