"""Arrays of a network that are never learnt, such as random features."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from metajax.errors import InputError

PyTree = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Constant:
    """An array among a network's parameters that is never updated.

    `Model.init` returns it like the others. Inner loops and outer optimizers take no
    gradient of it and keep no state for it, so it may have any dtype. Your own
    `jax.grad` treats it like any other array.

    Attributes:
      value: the array.

    >>> import jax.numpy as jnp, optax, metajax as mj
    >>> def init(key):
    ...     return {"scale": jnp.ones(2), "order": Constant(jnp.array([1, 0]))}
    >>> def apply(params, x):
    ...     return (params["scale"] * x)[:, params["order"].value]
    >>> with jax.numpy_rank_promotion("allow"):
    ...     learner = mj.maml(mj.Model(init, apply), mj.mse, optax.sgd(0.1), steps=1)
    ...     support = mj.Batch(jnp.ones((1, 2)), jnp.zeros((1, 2)))
    ...     adapted = learner.adapt(learner.init(jax.random.key(0)), support)
    >>> adapted["scale"].tolist(), adapted["order"].value.tolist()
    ([0.8999999761581421, 0.8999999761581421], [1, 0])
    """

    value: Any


def is_constant(node: Any) -> bool:
    """Whether a node of a tree is a `Constant`."""
    return isinstance(node, Constant)


def learnt(tree: PyTree) -> PyTree:
    """A tree with None in place of each `Constant`.

    Raises:
      InputError: if another leaf is no float, which no gradient can move.

    >>> learnt({"scale": 1.0, "order": Constant(2)})
    {'order': None, 'scale': 1.0}
    """
    return jax.tree.map_with_path(_learnt, tree, is_leaf=is_constant)


def _learnt(path: tuple, x: Any) -> Any:
    if is_constant(x):
        return None
    dtype = x.dtype if hasattr(x, "dtype") else jax.dtypes.result_type(x)
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise InputError(
            f"parameter {jax.tree_util.keystr(path)} must be a floating-point or "
            f"complex array to be learnt, got {dtype}; hold what is not learnt as "
            "metajax.Constant(array)"
        )
    return x


def check_learnt(name: str, tree: PyTree) -> None:
    """Checks that a tree has no `Constant`, for a learner `name` that needs that.

    Raises:
      InputError: if it has one.
    """
    if any(map(is_constant, jax.tree.leaves(tree, is_leaf=is_constant))):
        raise InputError(
            f"{name} expected parameters that are all learnt, got a metajax.Constant; "
            "let the network close over the array instead"
        )


def unlearnt(tree: PyTree) -> PyTree:
    """A tree with None in place of each leaf that is not a `Constant`."""
    return jax.tree.map(
        lambda x: x if is_constant(x) else None, tree, is_leaf=is_constant
    )


def completed(part: PyTree, tree: PyTree) -> PyTree:
    """Joins a part that `learnt` returned with the constants of a tree.

    >>> completed({"scale": 3.0, "order": None}, {"scale": 1.0, "order": Constant(2)})
    {'order': Constant(value=2), 'scale': 3.0}
    """

    def is_place(node: Any) -> bool:
        return node is None or is_constant(node)

    return jax.tree.map(
        lambda x, y: x if is_constant(x) else y, tree, part, is_leaf=is_place
    )


def values(tree: PyTree) -> PyTree:
    """A tree with the array in place of each `Constant`."""
    return jax.tree.map(
        lambda x: x.value if is_constant(x) else x, tree, is_leaf=is_constant
    )
