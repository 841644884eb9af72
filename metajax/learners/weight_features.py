"""What a classifier sees of a signal that a network was fitted to."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax._pytrees.constant import learnt
from metajax.types import Array, Batch, Params, unpadded

Features = Callable[[Params, Params, Batch], Array]
TINY = 1e-12  # mean square change below which an array counts as unchanged


def weight_changes(start: Params, adapted: Params, support: Batch) -> Array:
    """How far each weight has moved, in units of what its array has on average.

      x_a = δ_a / √(mean δ_a² + 1e-12),   δ_a = θ'_a - θ_a   for each array a

    Args:
      start: θ.
      adapted: θ', of the same structure.
      support: the support set, which is not looked at.

    Returns:
      x, one number a weight: `float[weights]`.

    >>> start, adapted = {"w": jnp.zeros(2)}, {"w": jnp.array([3.0, -3.0])}
    >>> weight_changes(start, adapted, None).tolist()
    [1.0, -1.0]
    """
    del support
    changes = jax.tree.map(jnp.subtract, learnt(adapted), learnt(start))
    return jnp.concatenate([_scaled(x.ravel()) for x in jax.tree.leaves(changes)])


def detached_weight_changes(start: Params, adapted: Params, support: Batch) -> Array:
    """The same as constants: start and rates are learnt from the reconstruction alone.

    Args:
      start: see `weight_changes`.
      adapted: see there.
      support: see there.

    Returns:
      See there.
    """
    return jax.lax.stop_gradient(weight_changes(start, adapted, support))


def sorted_values(start: Params, adapted: Params, support: Batch) -> Array:
    """The values of the support set in the order of its points: the signal itself.

    For a support set of all pixels of an image, these are its rows from the top down,
    in whatever order the set has them. Of a part of them it means little.

    Args:
      start: parameters, which are not looked at.
      adapted: likewise.
      support: coordinates `float[points, axes]` and values.

    Returns:
      `float[points * channels]`.

    >>> support = Batch(jnp.array([[0.5, 0.0], [-0.5, 0.0]]), jnp.array([[2.0], [1.0]]))
    >>> sorted_values(None, None, support).tolist()
    [1.0, 2.0]
    """
    del start, adapted
    points, values = (unpadded(side)[0] for side in support)
    return values[jnp.lexsort(points.T)].ravel()


def _scaled(change: Array) -> Array:
    return change / jnp.sqrt(jnp.mean(change**2) + TINY)
