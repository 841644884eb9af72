"""The peak signal-to-noise ratio of images."""

import operator
from dataclasses import dataclass

import jax.numpy as jnp

from metajax.checks import check_positive
from metajax.metrics.intervals import mean
from metajax.metrics.metric import Metric, mse
from metajax.types import Array, PyTree

LEAST = 1e-12  # mean squared error of a ratio of 120 dB, where the peak is 1


def psnr(peak: float = 1.0) -> Metric:
    """Peak signal-to-noise ratio of each task, averaged over tasks, in decibels.

      PSNR_i = min(10 log10(peak² / mse_i), 120),   value = (1/tasks) Σ_i PSNR_i

    as papers on images have it: not the ratio of the mean squared error of all tasks,
    which is lower. Outputs and targets are values `float[examples, ...]`, or `Padded`
    ones. The ratio of an image without any error would be infinite, and so would the
    mean of all: 120 dB, an error of a millionth of the peak, stand for it. Fewer pixels
    of an image have a higher mean ratio than all of them, as the logarithm is concave:
    compare like with like.

    Args:
      peak: the largest value; 1 for images in [0, 1].

    Returns:
      A `Metric`. It is a mean over tasks, so a learner's `metrics` may take it too.

    Raises:
      InputError: if the peak is not positive.

    >>> from metajax.metrics import psnr
    >>> print(f"{psnr()(jnp.full((4, 1), 0.6), jnp.full((4, 1), 0.5)):.2f}")
    20.00
    """
    check_positive("peak", peak)
    return Metric("psnr", _Ratio(peak), mean, operator.gt, "{:.2f}".format, "dB")


@dataclass(frozen=True)
class _Ratio:
    """That of one task; equal for equal peaks."""

    peak: float

    def __call__(self, outputs: PyTree, targets: PyTree) -> Array:
        error = mse(outputs, targets) / self.peak**2
        return -10.0 * jnp.log10(jnp.maximum(error, LEAST))
