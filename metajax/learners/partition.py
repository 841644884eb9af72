"""Some of the parameters, selected by their paths in the tree."""

from collections.abc import Callable

import jax

from metajax._pytrees.constant import is_constant
from metajax.errors import InputError
from metajax.types import Params, PyTree

PathPredicate = Callable[[str], bool]
"""Whether to take an array, by its path as `jax.tree_util.keystr` writes it:
"['head']['bias']"."""


def everything(path: str) -> bool:
    """True of every array."""
    return True


def nothing(path: str) -> bool:
    """True of no array."""
    return False


def scale_or_offset(path: str) -> bool:
    """True of a normalisation's arrays, by their names in the tree.

    Flax calls an offset "bias" and Equinox a scale "weight", as other layers' arrays
    are called: of their networks, give a predicate that has the names of the norms.
    """
    return path.endswith(("['scale']", "['offset']"))


def mask(predicate: PathPredicate, params: Params) -> PyTree:
    """The predicate at each leaf; False for the leaves of a `Constant`."""

    def at(path: tuple, node: PyTree) -> PyTree:
        if is_constant(node):
            return jax.tree.map(lambda _: False, node)
        return predicate(jax.tree_util.keystr(path))

    return jax.tree.map_with_path(at, params, is_leaf=is_constant)


def partition(predicate: PathPredicate, params: Params) -> tuple[Params, Params]:
    """The parameters of which the predicate is true, and the others.

    Each has None where a leaf is in the other.

    Raises:
      InputError: if the predicate is true of none, and there are parameters.

    >>> partition(lambda path: "head" in path, {"body": 1.0, "head": 2.0})
    ({'body': None, 'head': 2.0}, {'body': 1.0, 'head': None})
    """
    taken = mask(predicate, params)
    if (leaves := jax.tree.leaves(taken)) and not any(leaves):
        paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(params)]
        raise InputError(
            "some of the parameters must adapt, and none was chosen; choose by their "
            f"paths, which are {', '.join(paths)}"
        )
    part = jax.tree.map(lambda x, t: x if t else None, params, taken)
    return part, jax.tree.map(lambda x, t: None if t else x, params, taken)


def combine(tree: PyTree, other: PyTree) -> PyTree:
    """`tree`, with the leaves of `other` where it has None."""
    return jax.tree.map(
        lambda x, y: y if x is None else x, tree, other, is_leaf=lambda x: x is None
    )
