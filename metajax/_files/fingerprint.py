"""What tells one pytree of arrays from another."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import PyTree


def described(tree: PyTree) -> list[str]:
    """Path, dtype and shape of every array.

    >>> described({"w": np.zeros((2, 3))})
    ["['w'] float64[2, 3]"]
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [f"{jax.tree_util.keystr(p)} {x.dtype}{list(x.shape)}" for p, x in leaves]


def digest(tree: PyTree) -> str:
    """SHA-256 of the bytes of its arrays, in order."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()
