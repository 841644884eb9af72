"""A tree of parameters by layer: names, norms and products."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from metajax.ops.precision import wider
from metajax.types import Array, PyTree

ALL = "all"  # all layers together, last along an axis of layers


def layer_of(path: tuple[Any, ...]) -> str:
    """The name of the layer that a leaf belongs to: its path but for the last part.

    >>> tree = {"body": [{"kernel": 1.0}], "head": 2.0}
    >>> [layer_of(path) for path, _ in jax.tree.leaves_with_path(tree)]
    ['body/0', 'head']
    """
    kept = path[:-1] if len(path) > 1 else path
    return jax.tree_util.keystr(kept, simple=True, separator="/") or "(params)"


def layer_names(tree: PyTree) -> tuple[str, ...]:
    """The layers of a tree, in its order; of leaves that can be differentiated.

    >>> import metajax as mj
    >>> layer_names(mj.mlp().init(jax.random.key(0)))
    ('body/0', 'body/1', 'head')
    """
    return tuple(dict.fromkeys(layer_of(path) for path, _ in _smooth(tree)))


def layers_in_use(
    apply: Callable[[PyTree, PyTree], PyTree], params: PyTree, inputs: PyTree
) -> tuple[str, ...]:
    """The layers of a tree in the order in which a network puts them to its inputs.

    A tree's own order is that of its names, which need not be the network's.

    Args:
      apply: `apply(params, inputs) -> outputs`.
      params: the tree, of arrays or abstract ones.
      inputs: likewise.

    Returns:
      The names; of layers that the outputs do not use, last.

    >>> def apply(params, x):
    ...     return jnp.tanh(x @ params["first"]["w"]) @ params["last"]["w"]
    >>> w = {"w": jnp.ones((3, 3))}
    >>> layers_in_use(apply, {"last": w, "first": w}, jnp.ones((2, 3)))
    ('first', 'last')
    """
    with jax.disable_jit():  # what is jitted inside is then traced as part of it
        jaxpr = jax.make_jaxpr(apply)(params, inputs).jaxpr
    paths = [layer_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    owner = dict(zip(jaxpr.invars, paths))
    data, used = set(jaxpr.invars[len(paths) :]), []
    for equation in jaxpr.eqns:
        taken = [v for v in equation.invars if not isinstance(v, Literal)]
        layers = [owner[v] for v in taken if v in owner]
        if data.intersection(taken):
            used.extend(layers)
            data.update(equation.outvars)
        elif layers:  # a cast, a transposition: still that layer's
            owner.update(dict.fromkeys(equation.outvars, layers[0]))
    names = layer_names(params)
    return tuple(dict.fromkeys(n for n in (*used, *names) if n in names))


def products(first: PyTree, second: PyTree) -> Array:
    """The inner product of two trees in each layer and in all, `float[layer + 1]`."""
    sums: dict[str, Array] = {}
    for (path, x), (_, y) in zip(_smooth(first), _smooth(second), strict=True):
        wide = wider(jnp.result_type(x))
        name, product = layer_of(path), jnp.sum(x.astype(wide) * y.astype(wide))
        sums[name] = sums[name] + product if name in sums else product
    layers = jnp.stack(list(sums.values()))
    return jnp.append(layers, jnp.sum(layers))


def squares(tree: PyTree) -> Array:
    """The squared norm of each layer and of all, `float[layer + 1]`."""
    return products(tree, tree)


def norms(tree: PyTree) -> Array:
    """The norm of each layer and of all, `float[layer + 1]`.

    >>> norms({"a": {"w": jnp.array([3.0])}, "b": jnp.array([4.0])}).tolist()
    [3.0, 4.0, 5.0]
    """
    return jnp.sqrt(squares(tree))


def cosines(products: Any, first: Any, second: Any) -> Any:
    """Cosines from inner products and norms; 0 where a norm is 0."""
    size = first * second
    return jnp.where(size > 0, products / jnp.where(size > 0, size, 1), 0)


def difference(first: PyTree, second: PyTree) -> PyTree:
    """First - second."""
    return jax.tree.map(jnp.subtract, first, second)


def _smooth(tree: PyTree) -> list[tuple[tuple[Any, ...], Array]]:
    """The leaves that can be differentiated, with their paths."""
    return [
        (path, leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
