"""What labelling has to know of a kind of dense targets, masks or boxes."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from metajax.data.dense.store import DenseStore, Targets
from metajax.labelling.learner import ImageFormat
from metajax.metrics import Metric
from metajax.types import PyTree

# Okabe and Ito's palette, which colour-blind readers can tell apart, without yellow.
COLOURS = "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
Size = tuple[int, int]
"""(height, width) in pixels."""


class Frame(NamedTuple):
    """How what a learner sees lies in a picture.

    Attributes:
      classes: the number of each class of the learner among the names of all.
      seen: the size that the learner sees.
      size: the picture's own.
    """

    classes: np.ndarray
    seen: Size
    size: Size


class Mark(Protocol):
    """What is outlined, or boxed, in ONE picture, in pixels of its own."""

    @property
    def confidence(self) -> float:
        """How sure it is, in [0, 1]."""
        ...

    def parts(self) -> list[tuple[int, str]]:
        """The numbers of the classes in it, each with how much, most first."""
        ...

    def draw(self, picture: Image.Image) -> None:
        """Draws it over the picture, which may have another size."""
        ...


class Marked(NamedTuple):
    """A picture and what is in it.

    Attributes:
      file: its path below the folder.
      size: its own.
      mark: what is in it.
    """

    file: str
    size: Size
    mark: Any


class DenseTargets(NamedTuple):
    """A kind of dense targets: how they are read, judged and written.

    Attributes:
      name: "masks" or "boxes", as `DenseStore` has them.
      judged: what the metric is called in a sentence.
      read: `read(folder, format)`, labelled pictures.
      metric: `metric(classes)`, how they are judged.
      decode: `decode(outputs)`, traced: what is kept of a learner's outputs.
      mark: `mark(decoded, frame)`, that of ONE picture, in NumPy.
      check: `check(flag, path, folder, files)` raises InputError before anything is
        computed if what labels these files of a folder cannot be written to a path.
      write: `write(path, names, marked)`, whole or not at all.
    """

    name: Targets
    judged: str
    read: Callable[[Path, ImageFormat], DenseStore]
    metric: Callable[[int], Metric]
    decode: Callable[[Any], PyTree]
    mark: Callable[[Any, Frame], Mark]
    check: Callable[[str, Path, Path, Sequence[str]], None]
    write: Callable[[Path, Sequence[str], Iterable[Marked]], None]


def colour_of(number: int) -> str:
    """The colour of a class on a page.

    >>> colour_of(0), colour_of(6)
    ('#d55e00', '#d55e00')
    """
    return COLOURS[number % len(COLOURS)]
