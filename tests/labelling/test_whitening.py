"""Whitening of features by the scatter of other classes."""

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.errors import InputError
from metajax.labelling import learn_whitening


def test_the_scatter_of_classes_is_undone():
    random = np.random.default_rng(0)
    labels = np.array([0, 0, 0, 1, 1, 2])
    x = random.normal(size=(6, 4)) + 3.0
    whitening = learn_whitening(x, labels)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    rest = np.concatenate(
        [unit[labels == k] - unit[labels == k].mean(0) for k in (0, 1)]
    )
    scatter = rest.T @ rest / 6
    padded = scatter + np.trace(scatter) / 4 * np.eye(4)
    matrix = np.asarray(whitening.matrix, float)
    np.testing.assert_allclose(matrix.T @ padded @ matrix, np.eye(4), atol=1e-4)
    expected = (unit - unit.mean(0)) @ matrix
    np.testing.assert_allclose(
        whitening(jnp.float32(x)), expected, rtol=1e-3, atol=1e-4
    )


def test_pictures_that_do_not_differ_are_only_turned():
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    z = np.asarray(learn_whitening(x, np.array([0, 0, 1]))(jnp.float32(x)))
    assert np.all(np.isfinite(z)) and np.linalg.norm(z[0] - z[2]) > 1.0


def test_one_picture_a_class_says_nothing():
    with pytest.raises(InputError, match="at least two pictures of some class.*got 3"):
        learn_whitening(np.eye(3), np.arange(3))
