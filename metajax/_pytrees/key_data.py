"""PRNG keys as their data, for NumPy arrays, callbacks and other uses without keys."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.dtypes import prng_key

PyTree = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class KeyData:
    """The data of PRNG keys.

    Attributes:
      data: `uint32[..., n]`.
      impl: the implementation of the keys; it is static.
    """

    data: Any
    impl: Any = field(metadata={"static": True})


def is_key(x: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, prng_key)


def keys_to_data(tree: PyTree) -> PyTree:
    """The tree with `KeyData` in place of its keys.

    >>> keys_to_data(jax.random.key(0)).data.tolist()
    [0, 0]
    """

    def data(x: Any) -> Any:
        if not is_key(x):
            return x
        return KeyData(jax.random.key_data(x), jax.random.key_impl(x))

    return jax.tree.map(data, tree)


def data_to_keys(tree: PyTree) -> PyTree:
    """The tree with keys in place of its `KeyData`."""

    def key(x: Any) -> Any:
        if not isinstance(x, KeyData):
            return x
        return jax.random.wrap_key_data(jnp.asarray(x.data), impl=x.impl)

    return jax.tree.map(key, tree, is_leaf=lambda x: isinstance(x, KeyData))
