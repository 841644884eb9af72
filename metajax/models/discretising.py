"""From cells of many operations to cells of one each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from metajax.errors import InputError
from metajax.models.cell_operations import OperationName
from metajax.models.genotype import (
    INPUTS,
    KINDS,
    NONE,
    CellKind,
    CellSpace,
    Genotype,
    Node,
)
from metajax.types import Params, PyTree

KEPT = 2  # edges into a node of a genotype


def strongest(
    space: CellSpace, alphas: Mapping[str, Any], *, temperature: float = 1.0
) -> Genotype:
    """The genotype of the two strongest edges into each node.

    An edge is as strong as the likeliest of its operations but "none", which is the one
    that it becomes; the likelihoods are softmax(α / τ).

    Args:
      space: the nodes and operations that were searched.
      alphas: `{"normal": float[edges, operations], "reduction": ...}`.
      temperature: τ, at which the network was trained; see `at_temperature`.

    Returns:
      The `Genotype`.

    Raises:
      InputError: if the shape of the α is not that of the space.

    >>> alphas = np.zeros((2, 3))
    >>> alphas[0, 1] = alphas[1, 2] = 1.0
    >>> space = CellSpace(1, ("none", "skip", "conv-1x1"))
    >>> strongest(space, {"normal": alphas, "reduction": alphas}).normal
    ((('skip', 0), ('conv-1x1', 1)),)

    Source: Liu et al., "DARTS", ICLR 2019, section 2.4.
    """
    return Genotype(
        *(
            _strongest_cell(space, kind, np.asarray(alphas[kind], float) / temperature)
            for kind in KINDS
        )
    )


def _strongest_cell(
    space: CellSpace, kind: CellKind, alphas: np.ndarray
) -> tuple[Node, ...]:
    edges = space.edges(kind)
    if alphas.shape != (expected := (len(edges), len(space.operations))):
        raise InputError(
            f"the alphas of {space.nodes} nodes and these operations must be "
            f"{expected}, got {alphas.shape}; take the space they were searched in"
        )
    shares = np.array(jax.nn.softmax(alphas, -1))
    shares[:, [name == NONE for name in space.operations]] = -1.0
    best, strength = shares.argmax(-1), shares.max(-1)

    def node(state: int) -> Node:
        into = [e for e, edge in enumerate(edges) if edge.node == state]
        kept = sorted(into, key=lambda e: -strength[e])[:KEPT]
        return tuple((space.operations[best[e]], edges[e].source) for e in sorted(kept))

    return tuple(map(node, range(INPUTS, INPUTS + space.nodes)))


def random_genotype(
    generator: np.random.Generator, space: CellSpace | None = None
) -> Genotype:
    """A genotype drawn uniformly: of each node two sources, of each edge an operation.

    Args:
      generator: of random numbers. It is NumPy's, so that a configuration can draw
        before JAX has chosen its devices.
      space: the nodes and operations; `CellSpace()` by default.

    Returns:
      The `Genotype`.

    >>> random_genotype(np.random.default_rng(0)).nodes
    3
    """
    space = space or CellSpace()
    return Genotype(*(tuple(_random_cell(generator, space)) for _ in KINDS))


def _random_cell(generator: np.random.Generator, space: CellSpace) -> Iterator[Node]:
    names: Sequence[OperationName] = space.choices
    for node in range(INPUTS, INPUTS + space.nodes):
        sources = sorted(generator.choice(node, KEPT, replace=False).tolist())
        drawn = generator.integers(len(names), size=KEPT).tolist()
        yield tuple((names[o], s) for s, o in zip(sources, drawn))


def remaining(params: PyTree, like: PyTree) -> PyTree:
    """Those of a network's parameters that a part of it has too, by their paths.

    Args:
      params: of the network, such as `cells` of a `CellSpace`.
      like: parameters of the part, such as `cells` of a `Genotype`; arrays or abstract
        ones.

    Returns:
      The parameters, in the structure of `like`.

    Raises:
      InputError: if the network has not all of them.

    >>> remaining({"alphas": 1.0, "kernel": 2.0}, {"kernel": 0.0})
    {'kernel': 2.0}
    """
    arrays = dict(jax.tree.leaves_with_path(params))

    def take(path: tuple[Any, ...], leaf: Any) -> Any:
        array = arrays.get(path)
        if array is None or np.shape(array) != np.shape(leaf):
            shape = "none" if array is None else list(np.shape(array))
            raise InputError(
                f"{jax.tree_util.keystr(path)} must be {list(np.shape(leaf))} in the "
                f"network that is cut, and is {shape}; take a genotype of its own "
                "nodes and operations, and the same layers"
            )
        return array

    return jax.tree.map_with_path(take, like)


def parameter_count(params: Params) -> int:
    """The number of parameters.

    Args:
      params: a tree of arrays, or of abstract ones.

    Returns:
      The sum of their sizes.

    >>> parameter_count({"kernel": np.zeros((3, 2)), "bias": np.zeros(2)})
    8
    """
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
