"""Labels the images of a folder: one after the other, and as a page."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from metajax.data.folders.listing import list_loose, warn_each
from metajax.data.folders.survey import survey
from metajax.data.pictures.unlabelled import Decoded, Unreadable, decode_ahead
from metajax.labelling.answers import STRANGE, Answer, Answers, Label
from metajax.labelling.dense.teaching import DenseLabeller
from metajax.labelling.labeller import Labeller
from metajax.labelling.reading import read_inputs
from metajax.labelling.trust.comparison import (
    compare_folder,
    describe_guess,
    describe_strange,
)
from metajax.labelling.writing.page import Gallery, label_page

__all__ = ["FolderLabels", "FolderPass", "Label"]
AnyLabeller = TypeVar("AnyLabeller", Labeller, DenseLabeller)


class FolderPass(Generic[AnyLabeller]):
    """The pictures of a folder, read anew each time they are passed over.

    Args:
      labeller: the labeller.
      folder: of the pictures, at any depth.
      files: their paths below the folder; all pictures by default.
      shown: the number of pictures that the page shows, the least confident ones.

    Attributes:
      counts: the number of pictures of each label, so far.
      unreadable: the files that could not be read, and why, so far.
      gallery: the pictures for the page.

    Raises:
      InputError: if the folder is not there or has no pictures.
    """

    def __init__(
        self,
        labeller: AnyLabeller,
        folder: str | Path,
        files: Sequence[str] | None = None,
        *,
        shown: int = 0,
    ):
        self.labeller, self._shown = labeller, shown
        self.folder = Path(folder)
        if files is None:
            files, lines = list_loose(self.folder)
            warn_each(lines)
        self.files = files
        self.begin(Gallery(0))

    def begin(self, gallery: Gallery) -> None:
        """Begins anew, with a gallery to fill."""
        self.counts: Counter[str] = Counter()
        self.unreadable: list[Unreadable] = []
        self.gallery = gallery

    def batches(self, batch: int) -> Iterator[Decoded]:
        """The pictures in order, so many at a time, as the labelled ones were read."""
        form = self.labeller.source.format
        return decode_ahead(
            self.folder,
            self.files,
            form.size,
            form.mode,
            batch=batch,
            refuse=self.unreadable.append,
            bits=self.bits(),
            fit=form.fit,
        )

    def bits(self) -> int | None:
        """The depth at which images of 16 bits a pixel are read."""
        return _common_bits(self.labeller.bits, self.folder, self.files)

    def facts(self) -> dict[str, Any]:
        """What a page says of the pictures and the learner, by name."""
        labeller = self.labeller
        classes = len(labeller.classes)
        return {
            "pictures": f"{self.counts.total()} of {self.folder}",
            "could not be read": len(self.unreadable),
            "learner": labeller.source.name,
            "taught by": f"{labeller.support} pictures of {classes} classes",
            "expect": tuple(labeller.expected),
        }


class FolderLabels(FolderPass[Labeller]):
    """The labels of the images of a folder, made anew each time they are iterated over.

    An image that cannot be read has no label, and is listed in `unreadable`.

    Args:
      labeller: see `FolderPass`.
      folder: see there.
      files: see there.
      shown: see there.
      none: whether images of a novelty above 1/2 get the label `NONE`.
      remember: whether the answers are kept in `remembered`.
      compare: whether to warn of what is unlike the labelled images.

    Attributes:
      strange: the number of images of a novelty above 1/2, so far.
      kept: the number of images that are labelled ones, and keep their labels.
      remembered: the answers, so far.
      warnings: of what is unlike the labelled images.

    Raises:
      InputError: if the folder is not there or has no images; or if a class is called
        `NONE`, which is a label of its own.
    """

    def __init__(
        self,
        labeller: Labeller,
        folder: str | Path,
        files: Sequence[str] | None = None,
        *,
        shown: int = 0,
        none: bool = False,
        remember: bool = False,
        compare: bool = True,
    ):
        super().__init__(labeller, folder, files, shown=shown)
        self._answers = Answers(labeller, self.folder, none=none)
        self._none, self._remember, self._compare = none, remember, compare

    def begin(self, gallery: Gallery) -> None:
        """Begins anew, with a gallery to fill."""
        super().begin(gallery)
        self.strange, self.kept = 0, 0
        self._classified, self._confidence = 0, 0.0
        self.remembered: list[Answer] = []
        self.warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Label]:
        """The labels, in the order of the files."""
        self.begin(Gallery(self._shown))
        if self._compare:
            self.warnings = compare_folder(self.labeller, self.folder, self.files)
            self.warnings += describe_guess(self.labeller) if self._none else ()
            warn_each(self.warnings)
        batches = read_inputs(
            self.labeller.source,
            self.folder,
            self.files,
            refuse=self.unreadable.append,
            bits=self.bits(),
        )
        for batch in batches:
            judged = self.labeller.judge_inputs(batch.inputs)
            for i, answer in enumerate(self._answers.of_batch(batch.files, judged)):
                self._count(answer)
                later = not batch.at_hand[i]
                self.gallery.add(answer.label, batch.images[i], later=later)
                yield answer.label
        if self._compare:
            count = self.counts.total() - self.kept
            strange = describe_strange(self.labeller, self.strange, count)
            warn_each(strange)
            self.warnings += strange

    def _count(self, answer: Answer) -> None:
        self.counts[answer.label.label] += 1
        self.strange += answer.label.novelty > STRANGE
        self.kept += answer.kept
        if not answer.kept and answer.label.label in self.labeller.classes:
            self._confidence += answer.label.confidence
            self._classified += 1
        if self._remember:
            self.remembered.append(answer)

    def mean_confidence(self) -> float | None:
        """The mean confidence of the classes that were given; None without any."""
        return self._confidence / self._classified if self._classified else None

    @property
    def names(self) -> list[str]:
        """The classes, and what else was answered so far."""
        return list(dict.fromkeys([*self.labeller.classes, *self.counts]))

    def page(self) -> str:
        """The labels that were made, as a page of HTML with the images in it."""
        counts = {name: self.counts[name] for name in self.names}
        facts = self.facts()
        if self.warnings:
            facts = {"warning": self.warnings, **facts}
        examples = self.labeller.examples
        return label_page(
            self.gallery, counts, facts, self.unreadable, examples=examples
        )


def _common_bits(taught: int | None, folder: Path, files: Sequence[str]) -> int | None:
    """The depth at which images of 16 bits a pixel are read, at least that taught."""
    bits, lines = survey(folder, [folder / file for file in files], taught)
    warn_each(lines)
    if taught is not None and bits is not None and bits > taught:
        warn_each(
            [
                f"pictures of {folder} use {bits} bits, and the labelled ones were "
                f"read as {taught}-bit, so they look brighter; label brighter ones too"
            ]
        )
    return bits
