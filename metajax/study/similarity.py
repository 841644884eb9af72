"""How alike two representations of the same examples are."""

import jax.numpy as jnp

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


def mean_cca(first: Array, second: Array) -> Array:
    """The mean canonical correlation.

      ρ̄ = (1/p) ‖Q_Yᵀ Q_X‖_*,   Q an orthonormal basis of the centred columns

    It is 1 for representations that an invertible linear map takes to each other, and
    near 1 for any two where features are not many fewer than examples.

    Args:
      first: X, `[..., features]`; all axes but the last are examples, so that the
        positions of an image count as such.
      second: Y, likewise, of as many examples.

    Returns:
      A number between 0 and 1, the mean over the p directions of the smaller basis;
      NaN where one does not vary.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 3.0]])
    >>> round(float(mean_cca(x, x @ jnp.array([[1.0, 2.0], [0.0, 3.0]]))), 5)
    1.0

    Source: Raghu et al., "SVCCA", NeurIPS 2017; Kornblith et al., ICML 2019, section 4.
    """
    (u, rank_u), (v, rank_v) = (
        _basis(_centred(side.reshape(-1, side.shape[-1]))) for side in (first, second)
    )
    product = jnp.matmul(u.T, v, precision="highest")
    return jnp.sum(jnp.linalg.svd(product, compute_uv=False)) / jnp.minimum(
        rank_u, rank_v
    )


def _centred(x: Array) -> Array:
    x = x.astype(wider(x.dtype))
    return x - jnp.mean(x, axis=0, keepdims=True)


def _basis(x: Array) -> tuple[Array, Array]:
    """Of the span of the columns, zeros past its dimension; and the dimension."""
    u, sizes, _ = jnp.linalg.svd(x, full_matrices=False)
    least = max(x.shape) * jnp.finfo(x.dtype).eps * sizes[0]
    kept = (sizes > least).astype(x.dtype)
    return u * kept[None], jnp.sum(kept)
