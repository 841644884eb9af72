"""What is answered of a picture: a class, none of them, or the label that it has."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metajax.errors import InputError
from metajax.labelling.labeller import Judgement, Labeller, check_finite
from metajax.labelling.novelty import SHARE
from metajax.labelling.pictures.contents import Contents

NONE = "none"  # the label of an image of no labelled class
STRANGE = 0.5  # novelty above which an image gets that label


class Label(NamedTuple):
    """The two most probable classes of an image, and how strange it is.

    Attributes:
      file: its path below the folder.
      label: the most probable class, or `NONE`.
      confidence: its probability; of `NONE`, the novelty.
      runner_up: the next class; of `NONE`, the most probable one.
      runner_up_confidence: its probability; beside `NONE`, that of the class if the
        picture is of one, times 1 - novelty.
      novelty: how strange the image is beside the labelled ones, in [0, 1]; above 1/2
        it is more like one of a class that is not labelled.
    """

    file: str
    label: str
    confidence: float
    runner_up: str
    runner_up_confidence: float
    novelty: float = 0.0


class Answer(NamedTuple):
    """A label and what it is made from.

    Attributes:
      label: the label.
      probabilities: of the classes, `float[classes]`; the rest of 1 is for none.
      kept: whether the picture is a labelled one, which keeps its label.
    """

    label: Label
    probabilities: np.ndarray
    kept: bool


class Answers:
    """What a labeller answers of the pictures of a folder.

    Args:
      labeller: the labeller.
      folder: of the pictures.
      none: whether images of a novelty above 1/2 get the label `NONE`.

    Raises:
      InputError: if they do, and a class has that name.
    """

    def __init__(self, labeller: Labeller, folder: Path, *, none: bool = False):
        self._classes, self._folder, self._none = labeller.classes, folder, none
        self._contents = Contents(labeller.contents)
        if none:
            check_none(labeller.classes)

    def of_batch(self, files: Sequence[str], judged: Judgement) -> list[Answer]:
        """The answers for files, whose judgement may be padded.

        Raises:
          InputError: if a probability is not finite.
        """
        shares, novelty = (np.asarray(x)[: len(files)] for x in judged)
        check_finite(shares)
        rows = zip(files, shares, novelty.tolist())
        return [self._answer(file, own, strange) for file, own, strange in rows]

    def _answer(self, file: str, shares: np.ndarray, novelty: float) -> Answer:
        first, second = np.argsort(-shares, kind="stable")[:2]
        label = Label(
            file,
            self._classes[first],
            float(shares[first]),
            self._classes[second],
            float(shares[second]),
            novelty,
        )
        number = self._contents.class_of(self._folder / file)
        if number is not None:
            own = self._classes[number]
            other = label.runner_up if label.label == own else label.label
            return Answer(Label(file, own, 1.0, other, 0.0), shares, True)
        return Answer(without_class(label) if self._none else label, shares, False)


def check_none(classes: Collection[str]) -> None:
    """Checks that `NONE` may be a label of its own.

    Raises:
      InputError: if a class has that name.
    """
    if NONE in classes:
        raise InputError(
            f"--none labels pictures of no class {NONE!r}, and a class has that name; "
            "rename the class, or leave --none out"
        )


def without_class(label: Label) -> Label:
    """The same label, or `NONE` if the novelty is above 1/2.

      P(none) = s,   P(class) = (1 - s) p,   p = confidence / known(s)

    Both are probabilities of one distribution, in which half of the pictures are of no
    labelled class; `known` says of which share the confidences are.

    >>> without_class(Label("a.png", "cat", 0.9, "dog", 0.1, 0.75))[1:4]
    ('none', 0.75, 'cat')
    """
    strange = label.novelty
    if strange <= STRANGE:
        return label
    ratio = 1 - strange + strange * SHARE / (1 - SHARE)  # (1 - s) / known(s)
    best = label.label, ratio * label.confidence
    return Label(label.file, NONE, strange, *best, strange)
