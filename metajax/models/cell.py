"""One cell of a network of cells."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.models.cell_operations import (
    OPERATIONS,
    POOLINGS,
    OperationName,
    convolution_of,
    convolutions,
    halving_kernel,
    normed,
)
from metajax.models.convolved import HE
from metajax.models.genotype import INPUTS, NONE, CellKind, Edge
from metajax.types import Array, Params

EXACT = jax.lax.Precision.HIGHEST
DILATIONS = 1, 2


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
        """The stride of the operations on a state."""
        return 2 if self.kind == "reduction" and source < INPUTS else 1

    @property
    def nodes(self) -> int:
        """The states that it computes."""
        return 1 + max(edge.node for edge in self.edges) - INPUTS


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
        stride, keys = cell.stride(edge.source), jax.random.split(k, len(OPERATIONS))
        weights = {
            name: convolution.init(each, cell.channels, dtype)
            for name, each in zip(edge.operations, keys)
            if (convolution := convolution_of(name, stride)) is not None
        }
        if weights:
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
      Maps of as many channels as all nodes have, those of a channel side by side.
    """
    first, second = weights["inputs"]
    first = halving_kernel(first) if cell.uneven else first
    strides = 2 if cell.uneven else 1, 1
    states = [
        normed(convolutions([kernel], x, stride=stride)[..., 0], present)
        for kernel, x, stride in zip((first, second), inputs, strides)
    ]
    total = jnp.zeros((), states[0].dtype)
    for source in range(INPUTS + cell.nodes):
        if source >= INPUTS:
            states.append(total[..., source - INPUTS])
        if users := _users(cell, source):
            stride = cell.stride(source)
            y, places = _results(
                weights["edges"], users, states[source], stride, present
            )
            mixture = _mixture(cell, places, shares, y.dtype)
            total = total + jnp.einsum("nhwck,kj->nhwcj", y, mixture, precision=EXACT)
    return total.reshape(*total.shape[:3], -1)


class Place(NamedTuple):
    """An operation of an edge: its number, that of the edge, and the edge's name."""

    edge: int
    choice: int
    name: str


Pairs = Iterator[tuple[Array, list[list[Place]]]]
"""Results, `float[n, height, width, channels, results]`, and which each is of."""
Users = dict[OperationName, list[Place]]


def _users(cell: Cell, source: int) -> Users:
    """The edges that leave a state, by the operations that they may be."""
    users: Users = {}
    for number, edge in enumerate(cell.edges):
        for choice, name in enumerate(edge.operations):
            if edge.source == source and name != NONE:
                users.setdefault(name, []).append(Place(number, choice, edge.name))
    return users


def _results(
    weights: Params, users: Users, x: Array, stride: int, present: Array | None
) -> tuple[Array, list[list[Place]]]:
    """What all operations on a state give, and which edges take each."""
    pairs = [*_convolved(weights, users, x, stride), *_pooled(users, x, stride)]
    places = [place for _, those in pairs for place in those]
    parts = []
    if pairs:
        parts.append(normed(jnp.concatenate([y for y, _ in pairs], -1), present))
    if stride == 1 and "skip" in users:
        parts.append(x[..., None])
        places.append(users["skip"])
    return jnp.concatenate(parts, -1), places


def _convolved(weights: Params, users: Users, x: Array, stride: int) -> Pairs:
    """The convolutions of a state, computed together for each dilation."""
    for dilation in DILATIONS:
        kernels, places = [], []
        for name, those in users.items():
            convolution = convolution_of(name, stride)
            if convolution is not None and convolution.dilation == dilation:
                own = [weights[place.name][name] for place in those]
                kernels.extend(map(convolution.kernel, own))
                places.extend([place] for place in those)
        if kernels:
            y = convolutions(kernels, x, stride=stride, dilation=dilation)
            yield y, places


def _pooled(users: Users, x: Array, stride: int) -> Pairs:
    """The poolings of a state, each of which several edges may take."""
    for name, pool in POOLINGS.items():
        if name in users:
            yield pool(x, stride=stride)[..., None], [users[name]]


def _mixture(
    cell: Cell, places: list[list[Place]], shares: Array | None, dtype: jnp.dtype
) -> Array:
    """How much of each result each node takes, `float[results, nodes]`."""
    choices = max(len(edge.operations) for edge in cell.edges)
    picks = np.zeros((len(places), cell.nodes, len(cell.edges), choices))
    for result, those in enumerate(places):
        for edge, choice, _ in those:
            picks[result, cell.edges[edge].node - INPUTS, edge, choice] = 1
    if shares is None:
        return jnp.asarray(picks.sum((2, 3)), dtype)
    picks = jnp.asarray(picks, dtype)
    return jnp.einsum("kjeo,eo->kj", picks, shares, precision=EXACT)
