"""Confidences that can be trusted: a temperature, its error, an interval of a share.

SciPy has Wilson's interval too, but `scipy.stats` takes 0.7 s to import, for a formula
of four lines; `scipy.optimize` and `scipy.special` take 0.4 s.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from metajax.errors import InputError
from metajax.labelling.trust.predictions import Predictions
from metajax.metrics import Z95

COLDEST, HOTTEST = 1e-3, 1e3  # temperatures
WEIGHT = 30  # of the examples of other tasks together, in examples of the task itself


def temperature(own: Predictions, others: Predictions | None = None) -> float:
    """The temperature of the softmax that makes confidences true, by likelihood.

      p_T(x) = softmax(z / T)
      T = argmin_T -Σ_own log p_T(x_i)[y_i] - W/N Σ_others log p_T(x_j)[y_j]

    A task has few examples of its own, and examples of other tasks are of other
    classes. So the N others together weigh as much as W = 30 of its own: see the table
    of calibration errors in `benchmarks/README.md`. With a prototypical network, 5
    classes of 2 shots of alphabets not trained on had an expected calibration error of
    4 % with both, 6 % with the others alone and 20 % with its own alone.

    Without others, labels are smoothed by Platt's rule: [y_i = k] becomes (n+1)/(n+2),
    and the other classes share the rest. Otherwise a few examples that are all
    predicted correctly would ask for T = 0, and certainty.

    The loss is convex in 1/T; T is where its derivative by 1/T is zero, in [1e-3, 1e3].

    Args:
      own: predictions for the task's labelled examples; there may be none.
      others: predictions for examples of other tasks like it.

    Returns:
      T > 0. It does not change which class has the largest confidence.

    Raises:
      InputError: if there are no examples, fewer than two classes, or a logit that is
        not finite.

    >>> logits = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    >>> print(f"{temperature(Predictions(logits, np.array([0, 0, 1, 1]))):.1f}")
    13.0

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section
    4.2; Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.
    """
    terms = _terms(own, others)

    def slope(log_inverse: float) -> float:
        """The derivative of the loss by 1/T."""
        scale = np.exp(log_inverse)
        return sum(
            weight * np.sum((softmax(scale * z, axis=1) - targets) * z)
            for weight, z, targets in terms
        )

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    if slope(low) > 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    root = brentq(slope, low, high, xtol=1e-12)
    return float(np.exp(-np.asarray(root)))


def _terms(
    own: Predictions, others: Predictions | None
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """The weight, the logits and the label probabilities of each term of the loss."""
    parts = [(1.0, own)] if len(own.labels) else []
    smoothing = 1 / (len(own.labels) + 2)
    if others is not None and len(others.labels):
        parts.append((WEIGHT / len(others.labels), others))
        smoothing = 0.0
    if not parts or not all(np.all(np.isfinite(part.logits)) for _, part in parts):
        raise InputError(
            "a temperature needs examples, and finite logits of them; leave it at 1"
        )
    if own.logits.shape[1] < 2:
        raise InputError("a temperature needs at least 2 classes, got 1")
    return [(w, x.logits.astype(float), _smoothed(x, smoothing)) for w, x in parts]


def _smoothed(predictions: Predictions, share: float) -> np.ndarray:
    """Labels as probabilities, of which the other classes share so much."""
    classes = predictions.logits.shape[1]
    certain = np.eye(classes)[predictions.labels]
    return (1 - share) * certain + share / (classes - 1) * (1 - certain)


def share_interval(successes: float, count: float) -> tuple[float, float]:
    """The 95 % confidence interval of a share, which holds for few trials too.

      (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Args:
      successes: p n, how many of the trials succeeded.
      count: n, the number of trials.

    Returns:
      Its ends, within [0, 1].

    >>> low, high = share_interval(10, 10)
    >>> print(f"{low:.3f} {high:.3f}")
    0.722 1.000

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", Journal of the American Statistical Association, 1927.
    """
    share, z = successes / count, Z95
    middle = share + z**2 / (2 * count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    whole = 1 + z**2 / count
    # 0 of n and n of n have the ends 0 and 1 exactly, but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / whole
    return low, 1.0 if successes == count else (middle + half) / whole


def calibration_error(
    predictions: Predictions, temperature: float = 1.0, *, bins: int = 15
) -> float:
    """The expected difference between confidence and accuracy.

      ECE = Σ_b n_b / n |accuracy in bin b - mean confidence in bin b|

    Args:
      predictions: for examples whose labels are known.
      temperature: of the softmax.
      bins: of confidence, of equal width.

    Returns:
      The expected calibration error, in [0, 1].

    >>> logits = np.array([[9.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    >>> print(f"{calibration_error(Predictions(logits, np.array([0, 0, 1, 1]))):.2f}")
    0.25

    Source: Guo et al., ICML 2017, section 2.
    """
    logits = predictions.logits.astype(float)
    confidence = np.max(softmax(logits / temperature, axis=1), axis=1)
    return confidence_error(confidence, predictions.correct(), bins=bins)


def confidence_error(
    confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15
) -> float:
    """The same of confidences, and of whether each prediction is correct.

    Args:
      confidence: `float[n]`, in [0, 1].
      correct: `bool[n]`.
      bins: of confidence, of equal width.

    >>> print(f"{confidence_error(np.array([0.9, 0.9]), np.array([True, False])):.1f}")
    0.4
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, correct - confidence, bins)
    return float(np.sum(np.abs(gaps)) / len(confidence))
