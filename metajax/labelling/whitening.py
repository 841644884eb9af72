"""How pictures of one class differ, learnt from other classes, and undone."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.ops.precision import product
from metajax.ops.unit_rows import unit_rows
from metajax.types import Array

LEAST = 1e-12  # variance of features of length one, where no two pictures differ


class Whitening(NamedTuple):
    """A map of features in which pictures of one class differ alike in all directions.

      z = (x / |x| - m) W

    Attributes:
      mean: m, `float32[d]`.
      matrix: W, `float32[d, d]`.
    """

    mean: Array
    matrix: Array

    def __call__(self, features: Array) -> Array:
        """The map of features x, `float32[n, d]`."""
        return product(unit_rows(features) - self.mean[None], self.matrix)


def learn_whitening(features: np.ndarray, labels: np.ndarray) -> Whitening:
    """The whitening of the scatter of classes about their means.

      W = U (Λ + mean(Λ) I)^(-1/2),   U Λ U^T = 1/n Σ_i (x_i - m_k) (x_i - m_k)^T

    x are features at length one, and m_k the mean of those of the class of x_i. What is
    added to Λ keeps directions in which few pictures differ from being blown up.

    Args:
      features: `float[n, d]`.
      labels: of the pictures, `int[n]`.

    Raises:
      InputError: if no class has two pictures.

    Source: Hatch et al., "Within-Class Covariance Normalization for SVM-based Speaker
    Recognition", Interspeech 2006.

    >>> x = np.array([[3.0, 4.0], [4.0, 3.0], [-3.0, 4.0], [-4.0, 3.0]])
    >>> whitening = learn_whitening(x, np.array([0, 0, 1, 1]))
    >>> whitening(jnp.float32(x)).shape
    (4, 2)
    """
    counts = np.bincount(labels)
    if max(counts, default=0) < 2:
        raise InputError(
            "expected at least two pictures of some class, to learn how pictures of "
            f"one class differ, got {len(labels)} of as many classes; add pictures"
        )
    unit = np.asarray(unit_rows(jnp.asarray(features)), float)
    sums = np.zeros((len(counts), unit.shape[1]))
    np.add.at(sums, labels, unit)
    rest = unit - (sums / np.maximum(counts, 1)[:, None])[labels]
    values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
    matrix = vectors / np.sqrt(values + max(values.mean(), LEAST))
    return Whitening(jnp.float32(unit.mean(0)), jnp.float32(matrix))
