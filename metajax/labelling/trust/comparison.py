"""Compares the pictures to label with the labelled ones, and warns of what differs."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.pictures.unlabelled import Unreadable, decode_ahead
from metajax.labelling.labeller import Labeller
from metajax.labelling.learner import ImageFormat
from metajax.labelling.pictures.preparation import summaries
from metajax.types import Array

LOOKED = 64  # pictures of a folder, at most
BATCH = 64
REVERSED = 0.5  # difference of the shares that are bright on dark
DIFFERENCE, SPREADS = 0.15, 2.0  # of brightness and contrast, at least
STRANGER = 0.2  # difference of the shares of strange pictures, at least
EXPLAINED = 0, 1  # columns of brightness and contrast
TIMES = 1.5  # the ratio of sizes, at least


class Trait(NamedTuple):
    """Something by which two folders of pictures may differ.

    Attributes:
      column: of `summaries`.
      differs: `differs(labelled, others)`, of the values of each.
      sentence: what is wrong and what mends it, of "{ours}" and "{theirs}".
      shown: what is shown of the values.
    """

    column: int
    differs: Callable[[np.ndarray, np.ndarray], bool]
    sentence: str
    shown: Callable[[np.ndarray], str]


def compare_folder(
    labeller: Labeller, folder: Path, files: Sequence[str]
) -> tuple[str, ...]:
    """How pictures of a folder differ from the labelled ones.

    Args:
      labeller: the labeller.
      folder: of the pictures.
      files: their paths below it, of which 64 at equal distances are looked at.

    Returns:
      A sentence for each difference that may make labels wrong.
    """
    if labeller.summaries is None or not files:
        return ()
    form = labeller.source.format
    places = np.linspace(0, len(files) - 1, min(LOOKED, len(files))).astype(int)
    batches = decode_ahead(
        folder,
        [files[int(i)] for i in places],
        form.size,
        form.mode,
        batch=BATCH,
        refuse=_pass_over,
        bits=labeller.bits,
        fit=form.fit,
    )
    rows = [summarise(form, images)[: len(names)] for names, images in batches]
    if not rows:
        return ()
    return describe_differences(labeller.summaries, np.concatenate(rows))


def describe_strange(labeller: Labeller, strange: int, count: int) -> tuple[str, ...]:
    """A sentence if pictures are stranger than labelled ones are to each other.

    Args:
      labeller: the labeller.
      strange: how many have a novelty above 1/2.
      count: of how many.
    """
    usual = np.nan if labeller.novelty is None else float(labeller.novelty.usual)
    if not count or not strange / count > usual + STRANGER:
        return ()
    mend = "" if describe_guess(labeller) else ", or give --none"
    return (
        f"{100 * strange / count:.0f} % of the pictures to label have a novelty above "
        f"0.5, and {100 * usual:.0f} % of the labelled ones: they are of other classes "
        "or made in another way, and fewer labels are right than their confidences "
        f"say; label some of them{mend}",
    )


def describe_guess(labeller: Labeller) -> tuple[str, ...]:
    """A sentence if novelty may tell pictures of no class no better than a guess."""
    if labeller.novelty is None or not labeller.novelty.is_guess():
        return ()
    return (
        "novelty tells pictures of no labelled class no better than a guess here; "
        "leave --none out, or label more",
    )


def _pass_over(file: Unreadable) -> None:
    """What cannot be read is listed where it is labelled."""


def summarise(form: ImageFormat, images: np.ndarray) -> np.ndarray:
    """The `summaries` of pictures as a learner sees them, bright paper as bright.

    Args:
      form: of the learner.
      images: `uint8[n, height, width, channels]`.

    Returns:
      `float32[n, 4]`.
    """
    return in_batches(_summarise, form, images)


def in_batches(
    program: Callable[[ImageFormat, Array], Array],
    form: ImageFormat,
    images: np.ndarray,
) -> np.ndarray:
    """What a program makes of pictures, a few at a time and in one shape.

    Args:
      program: of a format and pictures, `uint8[64, height, width, channels]`.
      form: the format.
      images: `uint8[n, height, width, channels]`, n > 0.

    Returns:
      `float32[n, ...]`.
    """
    rows = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        padding = [(0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)]
        made = program(form, jnp.asarray(np.pad(part, padding)))
        rows.append(np.asarray(made)[: len(part)])
    return np.concatenate(rows)


@partial(jax.jit, static_argnums=0)
def _summarise(form: ImageFormat, images: Array) -> Array:
    return summaries(form._replace(inverted=False).to_inputs(images))


def describe_differences(labelled: np.ndarray, others: np.ndarray) -> tuple[str, ...]:
    """A sentence for each trait in which pictures differ from the labelled ones.

    Brightness and contrast are left out where another trait differs, which has changed
    them too.

    Args:
      labelled: the `summaries` of the labelled pictures.
      others: those of others.
    """
    lines = []
    for column, differs, sentence, shown in TRAITS:
        ours, theirs = labelled[:, column], others[:, column]
        if differs(ours, theirs) and not (lines and column in EXPLAINED):
            lines.append(sentence.format(ours=shown(ours), theirs=shown(theirs)))
    return tuple(lines)


def _is_reversed(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(abs(np.mean(ours > 0) - np.mean(theirs > 0)) > REVERSED)


def _is_apart(ours: np.ndarray, theirs: np.ndarray) -> bool:
    apart = abs(np.median(ours) - np.median(theirs))
    return bool(apart > max(DIFFERENCE, SPREADS * np.std(ours)))


def _is_larger(ours: np.ndarray, theirs: np.ndarray) -> bool:
    ratio = np.median(theirs) / max(float(np.median(ours)), 1e-6)
    return bool(not 1 / TIMES <= ratio <= TIMES)


def _bright(values: np.ndarray) -> str:
    return f"{100 * np.mean(values > 0):.0f} %"


def _median(values: np.ndarray) -> str:
    return f"{100 * np.median(values):.0f} %"


TRAITS = (
    Trait(
        2,
        _is_reversed,
        "{theirs} of the pictures to label are bright on dark, and {ours} of the "
        "labelled ones: their labels will be wrong; add --invert, which makes all "
        "dark on bright",
        _bright,
    ),
    Trait(
        3,
        _is_larger,
        "what is in the pictures to label fills {theirs} of their side, and {ours} in "
        "the labelled ones; add --crop ink, which crops all to it",
        _median,
    ),
    Trait(
        0,
        _is_apart,
        "the pictures to label have a brightness of {theirs}, and the labelled ones of "
        "{ours}; label some like them too",
        _median,
    ),
    Trait(
        1,
        _is_apart,
        "the pictures to label have a contrast of {theirs}, and the labelled ones of "
        "{ours}; label some like them too",
        _median,
    ),
)
