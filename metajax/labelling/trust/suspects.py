"""Labelled pictures whose labels are doubtful."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from metajax.labelling.trust.predictions import Predictions

SURE = 0.75  # probability of another class from which a label is doubtful
ALIKE = 1e-4  # mean squared difference of pictures, or squared distance of features
SHOWN = 5  # of each kind
ROWS = 1000  # of the matrix of distances, at a time


def find_mislabelled(
    own: Predictions,
    rows: np.ndarray,
    temperature: float,
    classes: Sequence[str],
    names: Sequence[str],
) -> list[str]:
    """Pictures that leave-one-out predicts to be of another class, and surely so.

    Args:
      own: the predictions of `leave_one_out`.
      rows: which picture each is of.
      temperature: of the softmax.
      classes: their names.
      names: of the pictures.

    Returns:
      A clause each, the surest first.
    """
    if not len(rows):
        return []
    shares = softmax(own.logits.astype(float) / temperature, axis=1)
    sure = shares.max(axis=1)
    doubtful = np.flatnonzero(~own.correct() & (sure >= SURE))
    ordered = doubtful[np.argsort(-sure[doubtful], kind="stable")]
    return [
        f"{names[int(rows[i])]} looks like {classes[int(shares[i].argmax())]}, not "
        f"{classes[int(own.labels[i])]} ({100 * sure[i]:.0f} %)"
        for i in ordered
    ]


def find_twins(
    references: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[str]:
    """Pictures of different classes that are nearly the same.

    Args:
      references: their `thumbnails`, `float[n, features]`.
      labels: the class of each.
      names: of the pictures.

    Returns:
      A clause for each picture that has a twin after it.
    """
    x = np.asarray(references, float)
    squares, lines = np.sum(x**2, axis=1), []
    for start in range(0, len(x), ROWS):
        rows = np.arange(start, min(start + ROWS, len(x)))
        distances = squares[rows, None] + squares - 2 * x[rows] @ x.T
        later = np.arange(len(x)) > rows[:, None]
        twins = (distances < ALIKE) & later & (labels[rows, None] != labels)
        for i in np.flatnonzero(twins.any(axis=1)):
            other = names[int(twins[i].argmax())]
            lines.append(f"{names[rows[i]]} and {other} are nearly the same")
    return lines


def describe_suspects(
    suspects: Sequence[str], kind: str, doubt: str = ""
) -> tuple[str, ...]:
    """A sentence of the first suspects of a kind; none without any.

    Args:
      suspects: a clause each.
      kind: what they are.
      doubt: of the list itself, a clause.

    >>> describe_suspects(["a.png looks like b (90 %)"], "label")
    ('check a label: a.png looks like b (90 %)',)
    """
    if not suspects:
        return ()
    more = len(suspects) - SHOWN
    rest = f"; and {more} more" if more > 0 else ""
    head = f"check a {kind}" if len(suspects) == 1 else f"check {len(suspects)} {kind}s"
    doubt = f" ({doubt})" if doubt else ""
    return (f"{head}{doubt}: {'; '.join(suspects[:SHOWN])}{rest}",)


def names_of(files: Sequence[Path], count: int) -> list[str]:
    """What pictures are called: the ends of their paths, or else their numbers.

    >>> names_of([Path("/labelled/cat/1.png")], 1), names_of([], 1)
    (['cat/1.png'], ['labelled picture 0'])
    """
    if files:
        return ["/".join(path.parts[-2:]) for path in files]
    return [f"labelled picture {i}" for i in range(count)]
