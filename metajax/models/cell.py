"""One cell of a network of cells."""

import functools
import operator
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.models.cell_operations import (
    BY_NAME,
    OperationName,
    Place,
    halved,
    normed,
)
from metajax.models.convolved import HE
from metajax.models.genotype import INPUTS, NONE, CellKind, Edge
from metajax.ops import conv2d
from metajax.types import Array, Params


class Cell(NamedTuple):
    """What a cell takes and gives.

    Attributes:
      kind: whether it halves its maps.
      edges: with the operations that each may be, or is.
      inputs: channels of the outputs of the two cells before.
      channels: of a node.
      uneven: whether the first of its inputs has twice the rows of the second.
    """

    kind: CellKind
    edges: tuple[Edge, ...]
    inputs: tuple[int, int]
    channels: int
    uneven: bool

    def stride(self, source: int) -> int:
        """Of the operations on a state."""
        return 2 if self.kind == "reduction" and source < INPUTS else 1


def init_cell(cell: Cell, key: Array, dtype: jnp.dtype | type) -> Params:
    """The parameters of a cell.

    Args:
      cell: what it takes and gives.
      key: a PRNG key.
      dtype: the type of the parameters.

    Returns:
      `{"edges": {edge: {operation: weights}}, "inputs": [kernel, kernel]}`, without
      what has no weights.
    """
    *first, key = jax.random.split(key, INPUTS + 1)
    inputs = [
        HE(k, (1, 1, size, cell.channels), dtype) for k, size in zip(first, cell.inputs)
    ]
    edges = {}
    for edge, k in zip(cell.edges, jax.random.split(key, len(cell.edges))):
        stride = cell.stride(edge.source)
        weights = {
            name: BY_NAME[name].init(each, cell.channels, stride, dtype)
            for name, each in zip(edge.choices, jax.random.split(k, len(BY_NAME)))
        }
        if weights := {name: w for name, w in weights.items() if w}:
            edges[edge.name] = weights
    return {"edges": edges, "inputs": inputs}


def cell_output(
    cell: Cell,
    weights: Params,
    inputs: tuple[Array, Array],
    shares: Array | None,
    present: Array | None,
) -> Array:
    """The nodes of a cell.

    Args:
      cell: what it takes and gives.
      weights: of `init_cell`.
      inputs: outputs of the two cells before.
      shares: of each edge and operation, `float[edges, operations]`; None where each
        edge is its one operation.
      present: which examples count in batch norm; None of all.

    Returns:
      Maps of as many channels as all nodes have, concatenated.
    """
    first, second = (jax.nn.relu(x) for x in inputs)
    kernels = weights["inputs"]
    taken = halved(kernels[0], first) if cell.uneven else conv2d(first, kernels[0])
    states = [normed(taken, present), normed(conv2d(second, kernels[1]), present)]
    entering: dict[int, list[Array]] = {edge.node: [] for edge in cell.edges}
    for source in range(INPUTS + len(entering)):
        if source >= INPUTS:
            states.append(functools.reduce(operator.add, entering[source]))
        place = Place(cell.stride(source), present)
        for edge, out in _leaving(cell, weights["edges"], states, shares, place):
            entering[edge.node].append(out)
    return jnp.concatenate(states[INPUTS:], -1)


def _leaving(
    cell: Cell,
    weights: Params,
    states: list[Array],
    shares: Array | None,
    place: Place,
) -> Iterator[tuple[Edge, Array]]:
    """What the operations on the newest state give to each edge that leaves it."""
    users: dict[OperationName, list[tuple[int, int]]] = {}
    for number, edge in enumerate(cell.edges):
        for choice, name in enumerate(edge.operations):
            if edge.source == len(states) - 1 and name != NONE:
                users.setdefault(name, []).append((number, choice))
    for name, those in users.items():
        edges = [cell.edges[number] for number, _ in those]
        own = [weights.get(edge.name, {}).get(name, {}) for edge in edges]
        results = BY_NAME[name].apply(own, states[-1], place)
        for edge, at, y in zip(edges, those, results, strict=True):
            yield edge, y if shares is None else shares[at] * y
