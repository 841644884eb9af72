"""Arrays that the host gives: taken from any library, and held to one form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax._files.fingerprint import described
from metajax._pytrees.key_data import is_key
from metajax.errors import InputError
from metajax.types import PyTree


def host_arrays(tree: PyTree, name: str, *, copy: bool = False) -> PyTree:
    """A pytree of arrays of any library on the host as NumPy arrays; keys stay keys.

    Args:
      tree: NumPy arrays, JAX arrays, torch tensors on the CPU, numbers.
      name: what gave it, for errors.
      copy: whether to copy arrays, which may be filled again.

    Raises:
      InputError: for a leaf that is no array of numbers, or one of whole numbers that
        JAX's default dtype does not hold.

    >>> host_arrays({"x": [1.5]}, "a list")
    {'x': [array(1.5, dtype=float32)]}
    """

    def array(leaf: Any) -> Any:
        return leaf if is_key(leaf) else _array(leaf, name, copy)

    return jax.tree.map(array, tree)


def _array(leaf: Any, name: str, copy: bool) -> np.ndarray:
    try:
        x = np.array(leaf) if copy else np.asarray(leaf)
        if not (jnp.issubdtype(x.dtype, np.number) or x.dtype == bool):
            raise TypeError(f"of dtype {x.dtype}")
        y = x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)
    except Exception as error:  # of whatever kind an array of another library raises
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"the {name} must give arrays of numbers on the host, got "
            f"{type(leaf).__name__} ({first})"
        ) from error
    if x.dtype.kind in "iu" and not np.array_equal(x, y):
        raise InputError(
            f"the {name} gave {x.dtype} numbers that {y.dtype} does not hold; enable "
            "jax_enable_x64"
        )
    return y


def check_same_form(tree: PyTree, like: PyTree, name: str) -> None:
    """Checks that arrays have the structure, shapes and dtypes of others.

    Raises:
      InputError: if they have not; the message names the first that differs.
    """
    expected, got = described(like), described(tree)
    if expected == got:
        return
    one, other = next(
        (pair for pair in zip(expected, got) if pair[0] != pair[1]),
        (f"{len(expected)} arrays", f"{len(got)}"),
    )
    raise InputError(
        f"the {name} must give meta-batches of one form, expected {one} as at first, "
        f"got {other}"
    )


def length(tree: PyTree) -> int:
    """The length of the leading axis, of the first leaf."""
    return jax.tree.leaves(tree)[0].shape[0]


def take_rows(tree: PyTree, which: Any) -> PyTree:
    """Rows of every leaf, by an index or a slice."""
    return jax.tree.map(lambda x: x[which], tree)
