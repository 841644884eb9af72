"""Some of the parameters, chosen by their paths in the tree."""

from collections.abc import Callable

import jax

from metajax._pytrees.constant import is_constant
from metajax.errors import InputError
from metajax.types import Params, PyTree

Chosen = Callable[[str], bool]
"""Of a path as `jax.tree_util.keystr` writes it: "['head']['bias']"."""


def everything(path: str) -> bool:
    """Every array."""
    return True


def nothing(path: str) -> bool:
    """No array."""
    return False


def scale_or_offset(path: str) -> bool:
    """Whether an array is a normalisation's, by its name in the tree."""
    return path.endswith(("['scale']", "['offset']"))


def where(chosen: Chosen, tree: PyTree) -> PyTree:
    """Whether each leaf is chosen; never one of a `Constant`."""

    def own(path: tuple, node: PyTree) -> PyTree:
        if is_constant(node):
            return jax.tree.map(lambda _: False, node)
        return chosen(jax.tree_util.keystr(path))

    return jax.tree.map_with_path(own, tree, is_leaf=is_constant)


def split(chosen: Chosen, params: Params) -> tuple[Params, Params]:
    """The parameters that are chosen, and the others; None in place of a missing one.

    Raises:
      InputError: if none is chosen, where there are some.

    >>> split(lambda path: "head" in path, {"body": 1.0, "head": 2.0})
    ({'body': None, 'head': 2.0}, {'body': 1.0, 'head': None})
    """
    own = where(chosen, params)
    found = jax.tree.leaves(own)
    if found and not any(found):
        paths = [jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(params)]
        raise InputError(
            "some of the parameters must adapt, and none was chosen; choose by their "
            f"paths, which are {', '.join(paths)}"
        )
    part = jax.tree.map(lambda x, o: x if o else None, params, own)
    return part, jax.tree.map(lambda x, o: None if o else x, params, own)


def joined(tree: PyTree, other: PyTree) -> PyTree:
    """A tree whose missing leaves are another's."""
    return jax.tree.map(
        lambda x, y: y if x is None else x, tree, other, is_leaf=lambda x: x is None
    )
