"""The features inside boxes."""

import jax
import jax.numpy as jnp

from metajax.ops.precision import product
from metajax.types import Array


def pool_boxes(features: Array, corners: Array, stride: int) -> tuple[Array, Array]:
    """The mean of a map over each box, of ONE image.

      v_m = Σ_c |c ∩ b_m| f_c / Σ_c |c ∩ b_m|    over the cells c of the map

    Args:
      features: f, `float[rows, columns, channels]`, of cells of `stride` x `stride`
        pixels.
      corners: (left, top, right, bottom) of each box in pixels, `float[boxes, 4]`.
      stride: the side of a cell.

    Returns:
      v, `float[boxes, channels]`, and the area of each box inside the map in cells,
      `float[boxes]`. Where that is zero, so is v.

    >>> features = jnp.arange(4.0).reshape(1, 4, 1)
    >>> means, inside = pool_boxes(features, jnp.array([[2.0, 0.0, 8.0, 4.0]]), 4)
    >>> print(f"{means[0, 0]:.4f} over {inside[0]}")
    0.6667 over 1.5
    """
    rows, columns, channels = features.shape
    cells = jax.lax.stop_gradient(corners).astype(features.dtype) / stride

    def inside(low: Array, high: Array, length: int) -> Array:
        edges = jnp.arange(length + 1, dtype=cells.dtype)
        return jnp.maximum(
            jnp.minimum(high[:, None], edges[None, 1:])
            - jnp.maximum(low[:, None], edges[None, :-1]),
            0,
        )

    across = inside(cells[:, 0], cells[:, 2], columns)
    down = inside(cells[:, 1], cells[:, 3], rows)
    weights = (down[:, :, None] * across[:, None]).reshape(len(cells), rows * columns)
    total = jnp.sum(weights, 1)
    sums = product(weights, features.reshape(rows * columns, channels))
    return sums / jnp.where(total > 0, total, 1)[:, None], total
