"""How alike two representations of the same examples are."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.ops.precision import wider
from metajax.types import Array


def linear_cka(first: Array, second: Array) -> Array:
    """Centred kernel alignment with linear kernels.

      CKA(X, Y) = ‖Yᵀ X‖_F² / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F),   columns centred

    It is 1 for representations that are turned, shifted or scaled as a whole.

    Args:
      first: X, `[examples, ...]`; further axes are features.
      second: Y, likewise, of as many examples.

    Returns:
      A number between 0 and 1; NaN where one does not vary.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> round(float(linear_cka(x, 3 * x[:, ::-1] + 1)), 5)
    1.0

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited",
    ICML 2019, equation 4.
    """
    x, y = (_centred(side.reshape(len(side), -1)) for side in (first, second))
    # Through the examples' products: few examples, and many features.
    a, b = (jnp.matmul(z, z.T, precision="highest") for z in (x, y))
    return jnp.sum(a * b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


class Covariances(NamedTuple):
    """Of two representations of the same examples, unnormalised.

    Attributes:
      first: XᵀX of centred columns, `[..., p, p]`.
      second: YᵀY, `[..., q, q]`.
      across: XᵀY, `[..., p, q]`.
    """

    first: Array
    second: Array
    across: Array


def covariances(first: Array, second: Array) -> Covariances:
    """What `canonical_correlation` needs of two representations.

    Args:
      first: X, `[..., features]`; all axes but the last are examples, so that the
        positions of an image count as such.
      second: Y, likewise, of as many examples.

    Returns:
      `Covariances`.
    """
    x, y = (_centred(side.reshape(-1, side.shape[-1])) for side in (first, second))
    product = partial(jnp.matmul, precision="highest")
    return Covariances(product(x.T, x), product(y.T, y), product(x.T, y))


def canonical_correlation(result: Covariances) -> np.ndarray:
    """The mean canonical correlation, see `mean_cca`.

    It is computed on the host: a decomposition inside a program that CPU devices or
    their threads share may wait for itself for ever.

    Args:
      result: from `covariances`, with any leading axes.

    Returns:
      `float64[...]`.
    """
    rounded = np.finfo(result.across.dtype).eps
    x, y, across = (np.asarray(side, np.float64) for side in result)
    finite = np.asarray(np.isfinite(across).all(axis=(-2, -1)))
    x, y, across = (np.where(finite[..., None, None], z, 0) for z in (x, y, across))
    (u, rank_u), (v, rank_v) = (_whitening(side, rounded) for side in (x, y))
    rho = np.linalg.svd(np.swapaxes(u, -1, -2) @ across @ v, compute_uv=False)
    least = np.minimum(rank_u, rank_v)
    sums = np.minimum(rho, 1).sum(axis=-1)
    return np.where(finite & (least > 0), sums / np.maximum(least, 1), np.nan)


def mean_cca(first: Array, second: Array) -> np.ndarray:
    """The mean canonical correlation.

      ρ̄ = (1/p) ‖(XᵀX)^(-1/2) XᵀY (YᵀY)^(-1/2)‖_*,   columns centred

    It is 1 for representations that an invertible linear map takes to each other, and
    near 1 for any two where features are not many fewer than examples. Directions that
    rounding cannot tell from none are left out of the p of the smaller side.

    Args:
      first: X, see `covariances`.
      second: Y, likewise.

    Returns:
      A number between 0 and 1; NaN where one side does not vary.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 3.0]])
    >>> round(float(mean_cca(x, x @ jnp.array([[1.0, 2.0], [0.0, 3.0]]))), 5)
    1.0

    Source: Raghu et al., "SVCCA", NeurIPS 2017; Kornblith et al., ICML 2019, section 4.
    """
    return canonical_correlation(jax.device_get(covariances(first, second)))


def _centred(x: Array) -> Array:
    x = x.astype(wider(x.dtype))
    return x - jnp.mean(x, axis=0, keepdims=True)


def _whitening(square: np.ndarray, rounded: float) -> tuple[np.ndarray, np.ndarray]:
    """S^(-1/2) on the directions that are more than rounding; and how many they are."""
    values, vectors = np.linalg.eigh(square)
    kept = values > 10 * square.shape[-1] * rounded * values[..., -1:]
    scale = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1)), 0)
    return vectors * scale[..., None, :], kept.sum(axis=-1)
