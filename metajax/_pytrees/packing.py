"""A tree with its many small vectors joined into few."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
LONGEST = 2**12  # entries of a vector that is joined, at most

Packed = tuple[list[jax.Array], list[jax.Array]]


def packing(
    parts: tuple[PyTree, ...], fewest: int | None
) -> tuple[Callable[[tuple], Packed], Callable[[Packed], tuple]]:
    """Joins the small vectors of each of some trees, so that a loop carries few arrays.

    A network has many biases, scales and offsets, and each array that a loop carries
    costs several kernels a step: for its update, for storing it, and for its cotangent.
    Matrices stay apart, since a product would first copy them out of a longer array,
    and so do a few vectors. If one of the vectors that are joined has a derivative, the
    others have one of zeros, so what is differentiated apart must be another part.

    Args:
      parts: trees of arrays, such as parameters and an optimizer's state.
      fewest: the number of vectors of one kind from which on they are joined; None for
        never.

    Returns:
      `pack(parts) -> packed` and `unpack(packed) -> parts`, for trees of the same
      structure, shapes and dtypes.

    >>> parts = {"kernel": jnp.eye(2), "scales": [jnp.ones(3) for _ in range(8)]}, ()
    >>> pack, unpack = packing(parts, fewest=8)
    >>> [x.shape for x in jax.tree.leaves(pack(parts))]
    [(24,), (2, 2)]
    >>> unpack(pack(parts))[0]["scales"][7].tolist()
    [1.0, 1.0, 1.0]
    """
    arrays, structure = jax.tree.flatten(parts)
    groups = [] if fewest is None else _groups(parts, fewest)
    ends = [np.cumsum([arrays[place].size for place in places]) for places in groups]
    apart = sorted(set(range(len(arrays))).difference(*groups))

    def pack(parts: tuple) -> Packed:
        leaves = structure.flatten_up_to(parts)
        joined = [jnp.concatenate([leaves[i] for i in places]) for places in groups]
        return joined, [leaves[place] for place in apart]

    def unpack(packed: Packed) -> tuple:
        joined, rest = packed
        leaves = dict(zip(apart, rest, strict=True))
        for places, vector, stops in zip(groups, joined, ends, strict=True):
            leaves |= zip(places, jnp.split(vector, stops[:-1]))
        return structure.unflatten(leaves[place] for place in range(len(arrays)))

    return pack, unpack


def _groups(parts: tuple[PyTree, ...], fewest: int) -> list[list[int]]:
    """The places, among all leaves, of the vectors that are joined."""
    owned = [(i, x) for i, part in enumerate(parts) for x in jax.tree.leaves(part)]
    kinds: dict[tuple[int, str], list[int]] = {}
    for place, (owner, x) in enumerate(owned):
        if (kind := _kind(x)) is not None:
            kinds.setdefault((owner, kind), []).append(place)
    return [places for places in kinds.values() if len(places) >= fewest]


def _kind(x: jax.Array) -> str | None:
    """The type of a small vector but for its length; None for any other array."""
    kind = jax.typeof(x)
    # A weak type would be lost, and with it the dtype that the loop settles on.
    if kind.ndim != 1 or kind.size > LONGEST or kind.weak_type:
        return None
    if not jnp.issubdtype(kind.dtype, jnp.inexact):
        return None
    # With its sharding and the axes that it varies along, which joining would mix.
    return re.sub(r"\[\d+", "[", str(kind))
