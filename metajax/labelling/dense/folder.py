"""Outlines or boxes the objects in the pictures of a folder, and shows them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from metajax.data.pictures.decoding import decode, size_of
from metajax.data.pictures.unlabelled import unreadable
from metajax.errors import FilesError
from metajax.labelling.dense.marks import Frame, Mark, Marked, Size, colour_of
from metajax.labelling.dense.teaching import DenseLabeller
from metajax.labelling.folder import FolderPass
from metajax.labelling.writing.page import Gallery, label_page

BATCH = 8  # pictures at a time
SIDE = 320  # of a picture on the page, in pixels, at most
MOST = 600  # pictures on the page
NOTHING = "nothing"


class DenseLabel(NamedTuple):
    """What the page says of a picture.

    Attributes:
      file: its path below the folder.
      label: what there is most of.
      confidence: how sure it is.
      parts: the name of each class, how much of it there is, and its colour.
    """

    file: str
    label: str
    confidence: float
    parts: list[tuple[str, str, str]]


class FolderMarks(FolderPass[DenseLabeller]):
    """What is in the pictures of a folder, made anew each time it is iterated over.

    A picture that cannot be read has no mark, and is listed in `unreadable`.

    Args:
      labeller: see `FolderPass`.
      folder: see there.
      files: see there.
      shown: see there.

    Attributes:
      shows: the number of pictures that show each class, so far.

    Raises:
      InputError: if the folder is not there or has no pictures.
    """

    def __init__(
        self,
        labeller: DenseLabeller,
        folder: str | Path,
        files: Sequence[str] | None = None,
        *,
        shown: int = 0,
    ):
        super().__init__(labeller, folder, files, shown=shown)
        self.shows: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Marked]:
        """The pictures that can be read, in the order of the files."""
        self.begin(Gallery(self._shown, SIDE))
        self.shows.clear()
        for files, images in self.batches(BATCH):
            decoded = self.labeller.decoded(images)
            for i, file in enumerate(files):
                try:
                    size = size_of(self.folder / file)
                except FilesError as error:  # it was decoded, and is gone
                    self.unreadable.append(unreadable(self.folder, file, error))
                    continue
                mark = self._mark(jax.tree.map(lambda x, i=i: x[i], decoded), size)
                self._add(file, size, mark)
                yield Marked(file, size, mark)

    def page(self) -> str:
        """What was marked, as a page of HTML with the pictures in it."""
        return label_page(
            self.gallery,
            self.counts,
            self.facts(),
            self.unreadable,
            template="labelling/dense/page.html",
        )

    def _mark(self, decoded: object, size: Size) -> Mark:
        source = self.labeller.source
        frame = Frame(self.labeller.classes, source.format.size, size)
        return source.targets.mark(decoded, frame)

    def _add(self, file: str, size: Size, mark: Mark) -> None:
        """Counts what is in a picture, and shows it."""
        names = self.labeller.names
        parts = [(names[k], text, colour_of(k)) for k, text in mark.parts()]
        self.shows.update({name for name, *_ in parts})
        label = DenseLabel(
            file, parts[0][0] if parts else NOTHING, mark.confidence, parts
        )
        self.counts[label.label] += 1
        self.gallery.add(label, partial(self._drawn, file, size, mark))

    def _drawn(self, file: str, size: Size, mark: Mark) -> np.ndarray:
        """A picture at the size of the page, with what is in it."""
        scale = min(1.0, SIDE / max(size))
        height, width = (max(1, round(scale * side)) for side in size)
        picture = Image.fromarray(decode(self.folder / file, (height, width), "RGB"))
        mark.draw(picture)
        return np.asarray(picture)
