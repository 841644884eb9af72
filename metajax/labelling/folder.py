"""Labels the images of a folder: one after the other, and as a page."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from metajax.data._survey import survey
from metajax.data.listing import list_loose, warn_each
from metajax.data.unlabelled import Decoded, Unreadable, decode_ahead
from metajax.labelling.dense import DenseLabeller
from metajax.labelling.labeller import Labeller, check_finite
from metajax.labelling.page import Gallery, label_page
from metajax.labelling.reading import InputBatch, read_inputs

AnyLabeller = TypeVar("AnyLabeller", Labeller, DenseLabeller)


class Label(NamedTuple):
    """The two most probable classes of an image."""

    file: str
    label: str
    confidence: float
    runner_up: str
    runner_up_confidence: float


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

    Raises:
      InputError: if the folder is not there or has no images.
    """

    def __iter__(self) -> Iterator[Label]:
        """The labels, in the order of the files."""
        self.begin(Gallery(self._shown))
        batches = read_inputs(
            self.labeller.source,
            self.folder,
            self.files,
            refuse=self.unreadable.append,
            bits=self.bits(),
        )
        for batch in batches:
            for i, label in enumerate(_label(self.labeller, batch)):
                self.counts[label.label] += 1
                self.gallery.add(label, partial(batch.image, i))
                yield label

    @property
    def names(self) -> list[str]:
        """The classes, and what else was answered so far."""
        return list(dict.fromkeys([*self.labeller.classes, *self.counts]))

    def page(self) -> str:
        """The labels that were made, as a page of HTML with the images in it."""
        counts = {name: self.counts[name] for name in self.names}
        return label_page(self.gallery, counts, self.facts(), self.unreadable)


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


def _label(labeller: Labeller, batch: InputBatch) -> list[Label]:
    """The labels of a batch, which may be padded."""
    shares = np.asarray(labeller.probabilities_of(batch.inputs))[: len(batch.files)]
    check_finite(shares)
    first, second = np.argsort(-shares, axis=1, kind="stable")[:, :2].T
    names = labeller.classes
    return [
        Label(file, names[a], float(p[a]), names[b], float(p[b]))
        for file, p, a, b in zip(batch.files, shares, first, second)
    ]
