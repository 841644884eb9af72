"""A tree with its small vectors joined into one of each dtype."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
SMALL = 2**12  # entries of a vector
MANY = 8  # vectors; for the three of a small MLP, joining took 5 % more time on a CPU

Packed = tuple[list[jax.Array], list[jax.Array]]


def packing(like: PyTree) -> tuple[Callable, Callable]:
    """Joins the small vectors of a tree, so that a loop carries few arrays.

    A network has many biases, scales and offsets, and each array that a loop carries
    costs several kernels a step: for its update, for storing it, and for its cotangent.
    Matrices stay apart, since a product would first copy them out of a longer array,
    and so do a few vectors.

    Args:
      like: a tree of arrays.

    Returns:
      `pack(tree) -> packed` and `unpack(packed) -> tree`, for trees of the structure,
      shapes and dtypes of `like`.

    >>> tree = {"kernel": jnp.eye(2), "scales": [jnp.ones(3) for _ in range(8)]}
    >>> pack, unpack = packing(tree)
    >>> [x.shape for x in jax.tree.leaves(pack(tree))]
    [(24,), (2, 2)]
    >>> unpack(pack(tree))["scales"][7].tolist()
    [1.0, 1.0, 1.0]
    """
    arrays, structure = jax.tree.flatten(like)
    types = [jax.typeof(x) for x in arrays]
    kinds: dict[Any, list[int]] = {}
    for place, kind in enumerate(types):
        if _is_small_vector(kind):
            kinds.setdefault(kind.dtype, []).append(place)
    groups = [places for places in kinds.values() if len(places) >= MANY]
    apart = sorted(set(range(len(types))).difference(*groups))

    def pack(tree: PyTree) -> Packed:
        leaves = jax.tree.leaves(tree)
        vectors = [
            jnp.concatenate([jnp.reshape(leaves[place], -1) for place in places])
            for places in groups
        ]
        return vectors, [leaves[place] for place in apart]

    def unpack(packed: Packed) -> PyTree:
        vectors, rest = packed
        leaves = dict(zip(apart, rest))
        for places, vector in zip(groups, vectors):
            ends = np.cumsum([types[place].size for place in places])
            for place, part in zip(places, jnp.split(vector, ends[:-1])):
                leaves[place] = part.reshape(types[place].shape)
        return structure.unflatten(leaves[place] for place in range(len(types)))

    return pack, unpack


def _is_small_vector(kind: Any) -> bool:
    # A weak type would be lost, and with it the dtype that the loop settles on.
    small = kind.ndim < 2 and kind.size <= SMALL and not kind.weak_type
    return small and jnp.issubdtype(kind.dtype, jnp.inexact)
