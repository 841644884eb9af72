"""The parts of learnt optimizers against their formulas in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.learners import lstm
from tests.helpers import KEY, lstm_by_hand, preprocessed


def test_preprocesses_as_the_paper_does(float64):
    x = np.array([0.0, 1e-12, -1e-12, 1.01e-5, -4.6e-5, 0.3, -0.3, 1.0, 1e9, -1e9])
    expected = np.array([preprocessed(v) for v in x])
    np.testing.assert_allclose(lstm.preprocess(jnp.asarray(x)), expected, rtol=1e-13)


def test_preprocessing_has_finite_derivatives_at_zero(float64):
    x = jnp.array([0.0, -0.0, 1e-300, 0.5])
    total = lambda x: jnp.sum(lstm.preprocess(x))  # noqa: E731
    first = jax.grad(total)(x)
    second = jax.grad(lambda x: jnp.sum(jax.grad(total)(x) ** 2))(x)
    np.testing.assert_allclose(first, [np.exp(10.0)] * 3 + [1 / (10.0 * 0.5)])
    # d/dx (1/10x)² = -2 / 100x³
    np.testing.assert_allclose(second, [0.0, 0.0, 0.0, -2 / (100 * 0.5**3)])


def test_the_cell_is_its_formula_row_by_row(float64):
    keys = jax.random.split(KEY, 4)
    weights = lstm.lstm_init(keys[0], 2, 3, dtype=jnp.float64)
    x, h, c = (
        jax.random.normal(k, (5, n), jnp.float64) for k, n in zip(keys[1:], (2, 3, 3))
    )
    output, cell = lstm.lstm(weights, x, lstm.Memory(h, c))
    weights = jax.tree.map(np.asarray, weights)
    for row in range(5):
        shown, kept = lstm_by_hand(weights, x[row], h[row], c[row])
        np.testing.assert_allclose(cell[row], kept, rtol=1e-12)
        np.testing.assert_allclose(output[row], shown, rtol=1e-12)


def test_the_cell_starts_by_remembering():
    bias = lstm.lstm_init(KEY, 2, 3, dtype=jnp.float32)["bias"]
    assert bias.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
