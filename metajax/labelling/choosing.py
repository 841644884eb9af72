"""Chooses what is done to pictures by leave-one-out, beside a plain baseline."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from math import comb
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.labelling.learner import ImageFormat, ImageLearner, PerQueryLearner
from metajax.labelling.teaching import LabelledImages
from metajax.labelling.trust.calibration import share_interval
from metajax.labelling.trust.comparison import in_batches, summarise
from metajax.labelling.trust.predictions import leave_one_out, shuffled
from metajax.types import Array, Batch, Params, PyTree

DOUBT = 0.05  # of a choice by chance, at most
FAINT = 0.1  # of the contrast: the mean less the paper, of a picture of 1 % bright ink
TRIED = 256  # labelled pictures by which ways to prepare are compared
PIXELS = 28  # height and width of the baseline's pictures, at most


class Choice(NamedTuple):
    """A learner that sees pictures in the way that was chosen.

    Attributes:
      learner: the learner.
      images: the labelled pictures in its format.
      lines: what was compared and chosen, in sentences.
    """

    learner: ImageLearner
    images: LabelledImages
    lines: tuple[str, ...]


class Trial(NamedTuple):
    """Pictures in one format, and which are predicted correctly from the others.

    Attributes:
      images: the labelled pictures.
      correct: by the learner, `bool[n]`.
      baseline: by the nearest class mean on pixels, `bool[m]`.
    """

    images: LabelledImages
    correct: np.ndarray
    baseline: np.ndarray


def choose_preparation(
    learner: ImageLearner,
    meta: PyTree,
    images: LabelledImages,
    read: Callable[[ImageLearner], LabelledImages] | None = None,
) -> Choice:
    """Compares ways to prepare pictures by leave-one-out, and chooses one.

    Inverting pictures that are bright on dark, and cropping pictures to their ink, are
    compared with the learner's own format. Another one is chosen only if it predicts
    clearly more labelled pictures correctly: more than chance would explain once in
    twenty times, by the sign test on the pictures that only one of both predicts. About
    256 labelled pictures are tried, the first of each class; and none other than the
    learner's own format where even one without a mistake would not be clearly better.

    Args:
      learner: the learner.
      meta: its meta-parameters.
      images: the labelled pictures, in its format.
      read: `read(learner)` reads them in another format; None to choose nothing, and
        only to compare with the baseline.

    Returns:
      A `Choice`.

    Source: Dietterich, "Approximate Statistical Tests for Comparing Supervised
    Classification Learning Algorithms", Neural Computation, 1998, for the test.
    """
    if max(images.shots) == 1:
        return Choice(learner, images, ())
    learner = _built_once(learner, len(images.classes))
    own = learner.format
    trials = {own: _try(learner, meta, images)}
    correct = trials[own].correct
    if read is not None and is_clearly_better(np.ones_like(correct), correct):
        others = [learner._replace(format=form) for form in _formats(learner, images)]
        for other in others:
            with warnings.catch_warnings():  # it warned when they were first read
                warnings.simplefilter("ignore")
                again = read(other)
            trials[other.format] = _try(other, meta, again)
    best = max(trials, key=lambda form: trials[form].correct.sum())
    clear = is_clearly_better(trials[best].correct, correct)
    chosen = best if clear else own
    lines = describe_trials(trials, chosen, best)
    return Choice(learner._replace(format=chosen), trials[chosen].images, lines)


def is_clearly_better(better: np.ndarray, worse: np.ndarray) -> bool:
    """Whether more predictions are correct than chance would explain.

      Σ_{k >= wins} C(wins + losses, k) / 2^(wins + losses) < 0.05

    Args:
      better: whether predictions are correct, `bool[n]`.
      worse: the same of others for the same examples.

    >>> always, half = np.ones(10, bool), np.arange(10) < 5
    >>> is_clearly_better(always, half), is_clearly_better(half, always)
    (True, False)
    """
    wins, losses = int(np.sum(better & ~worse)), int(np.sum(worse & ~better))
    count = wins + losses
    tail = sum(comb(count, k) for k in range(wins, count + 1))
    return tail / 2**count < DOUBT


def pixel_baseline(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which pictures the nearest class mean on pixels predicts from the others.

    Args:
      pixels: `float[n, pixels]`.
      labels: `int[n]`; a picture that is the only one of its class is not predicted.

    Returns:
      `bool[m]`.
    """
    pixels = np.asarray(pixels, float)
    members = np.eye(labels.max() + 1)[labels]
    counts = members.sum(0)
    means = members.T @ pixels / counts[:, None]
    squares = np.sum(pixels**2, 1)[:, None] + np.sum(means**2, 1) - 2 * pixels @ means.T
    # Without itself, its own mean is n/(n - 1) times as far.
    factors = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 1.0)
    distances = squares * np.where(members > 0, factors**2, 1.0)
    return (np.argmin(distances, 1) == labels)[counts[labels] > 1]


def describe_trials(
    trials: Mapping[ImageFormat, Trial], chosen: ImageFormat, best: ImageFormat
) -> tuple[str, ...]:
    """What was compared and chosen, in sentences.

    Args:
      trials: by format, that of the learner first.
      chosen: the format that is used.
      best: the format of the best leave-one-out accuracy.
    """
    names = {form: form.preparation.flags() for form in trials}
    ours = _shares({names[form]: each.correct for form, each in trials.items()})
    pixels = _shares({names[form]: each.baseline for form, each in trials.items()})
    lines = [
        f"leave-one-out accuracy by how pictures are prepared: {ours}; of the nearest "
        f"class mean on pixels: {pixels}"
    ]
    own = next(iter(trials))
    if chosen != own:
        lines.append(
            f"{names[chosen]} is used, which is clearly better; --crop none leaves "
            "pictures as they are"
        )
    elif best != own:
        lines.append(f"{names[best]} may be better, not clearly; give it to use it")
    plain = max((each.baseline for each in trials.values()), key=np.mean)
    low, _ = share_interval(int(plain.sum()), len(plain))
    if low > np.mean(trials[chosen].correct):
        lines.append(
            "the nearest class mean on pixels is better than this learner, which was "
            "trained on other pictures: train on pictures like these, or try another "
            "pre-trained network"
        )
    return tuple(lines)


def _shares(correct: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {100 * x.mean():.1f} %" for name, x in correct.items())


def _formats(learner: ImageLearner, images: LabelledImages) -> list[ImageFormat]:
    """The other formats to try: cropped; and inverted if that changes a picture."""
    form = learner.format
    _, contrast, signed, _ = summarise(form, images.images).T
    bright = signed > FAINT * contrast
    inverts = (False, True) if np.any(bright) else (False,)
    if form.preparation.invert:
        inverts = (True,)
    crops = (True,) if form.preparation.crop else (False, True)
    forms = [form.prepared(invert=i, crop=c) for i, c in product(inverts, crops)]
    return [other for other in forms if other != form]


def _try(learner: ImageLearner, meta: PyTree, images: LabelledImages) -> Trial:
    few = images.few(TRIED)
    order = shuffled(len(few.labels))
    inputs = jnp.asarray(few.inputs(learner))
    batch = Batch(inputs[order], jnp.asarray(few.labels[order]))
    built = learner.build(len(images.classes), learner.pretrained)
    correct = leave_one_out(built, meta, batch).correct()
    greys = in_batches(_greys, learner.format, few.images)
    return Trial(images, correct, pixel_baseline(greys, few.labels))


@partial(jax.jit, static_argnums=0)
def _greys(form: ImageFormat, images: Array) -> Array:
    """Small grey pictures, `float32[n, pixels]`."""
    grey = form.to_inputs(images).mean(-1)
    count, height, width = grey.shape
    shape = count, min(PIXELS, height), min(PIXELS, width)
    return jax.image.resize(grey, shape, "linear").reshape(count, -1)


def _built_once(learner: ImageLearner, classes: int) -> ImageLearner:
    """The learner, with one `PerQueryLearner` of its classes: one program for all."""
    built = learner.build(classes, learner.pretrained)

    def build(ways: int, pretrained: Params | None) -> PerQueryLearner:
        return built if ways == classes else learner.build(ways, pretrained)

    return learner._replace(build=build)
