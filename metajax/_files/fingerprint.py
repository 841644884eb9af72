"""Descriptions and hashes of pytrees of arrays, to tell them apart."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import PyTree


def described(tree: PyTree) -> list[str]:
    """The path, dtype and shape of every array of a pytree.

    >>> described({"w": np.zeros((2, 3))})
    ["['w'] float64[2, 3]"]
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [f"{jax.tree_util.keystr(p)} {x.dtype}{list(x.shape)}" for p, x in leaves]


def digest(tree: PyTree) -> str:
    """The SHA-256 of the bytes of the arrays of a pytree, in order."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        hashed.update(np.ascontiguousarray(leaf).tobytes())
    return hashed.hexdigest()
