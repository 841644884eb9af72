"""Which operations the edges of a cell may be, and which they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from metajax.checks import check_count, check_known
from metajax.errors import InputError
from metajax.models.cell_operations import OPERATIONS, OperationName

CellKind = Literal["normal", "reduction"]
KINDS: tuple[CellKind, ...] = get_args(CellKind)
INPUTS = 2  # states of a cell before its first node
NONE: OperationName = "none"


class Edge(NamedTuple):
    """An edge of a cell.

    Attributes:
      source: the state it leaves: 0 and 1 are the outputs of the two cells before, and
        2, 3, ... the nodes.
      node: the state it enters.
      operations: what it may be, or is.
    """

    source: int
    node: int
    operations: tuple[OperationName, ...]

    @property
    def name(self) -> str:
        """Its name in the tree of parameters."""
        return f"{self.source}-{self.node}"


@dataclass(frozen=True)
class CellSpace:
    """Cells whose every edge may be any of several operations.

    Attributes:
      nodes: states that a cell computes, each from all before it.
      operations: by name.

    Raises:
      InputError: if there is no node, or no operation but "none", or one is unknown or
        there twice.

    >>> [edge.name for edge in CellSpace(nodes=2).edges("normal")]
    ['0-2', '1-2', '0-3', '1-3', '2-3']
    """

    nodes: int = 3
    operations: tuple[OperationName, ...] = OPERATIONS

    def __post_init__(self) -> None:
        check_count("nodes", self.nodes, least=1)
        for name in self.operations:
            check_known("operation", name, OPERATIONS)
        if len({*self.operations}) < len(self.operations) or not self.choices:
            raise InputError(
                'operations must be different, and one of them not "none", got '
                f"{', '.join(self.operations) or 'none at all'}"
            )

    @property
    def choices(self) -> tuple[OperationName, ...]:
        """The operations but "none"."""
        return tuple(name for name in self.operations if name != NONE)

    def edges(self, kind: CellKind) -> tuple[Edge, ...]:
        """The edges of a cell, by node and then by source; the same for both kinds."""
        states = range(INPUTS, INPUTS + self.nodes)
        return tuple(
            Edge(source, node, self.operations)
            for node in states
            for source in range(node)
        )


Node = tuple[tuple[OperationName, int], ...]
"""What enters a node: operations, and the states they are applied to."""


@dataclass(frozen=True)
class Genotype:
    """Two cells whose every edge is one operation.

    Attributes:
      normal: for each node of the cell that keeps the size of its maps, `((operation,
        source), ...)`.
      reduction: the same for the cell that halves them.

    Raises:
      InputError: if an operation is unknown or "none", a source is not before its node
        or there twice, a node has no edge, or the cells differ in their nodes.

    >>> cell = (("conv-3x3", 0), ("skip", 1)),
    >>> Genotype(cell, cell).as_dict()["normal"]
    [[['conv-3x3', 0], ['skip', 1]]]

    Source: Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019.
    """

    normal: tuple[Node, ...]
    reduction: tuple[Node, ...]

    def __post_init__(self) -> None:
        if len(self.normal) != len(self.reduction) or not self.normal:
            raise InputError(
                "a genotype's cells must have equally many nodes, at least 1, got "
                f"{len(self.normal)} and {len(self.reduction)}"
            )
        for kind in KINDS:
            for node, edges in enumerate(getattr(self, kind), INPUTS):
                _check_node(f"node {node} of the {kind} cell", edges, node)

    @property
    def nodes(self) -> int:
        """The number of nodes of each cell."""
        return len(self.normal)

    def edges(self, kind: CellKind) -> tuple[Edge, ...]:
        """The edges of a cell."""
        return tuple(
            Edge(source, node, (operation,))
            for node, edges in enumerate(getattr(self, kind), INPUTS)
            for operation, source in edges
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            kind: [[list(edge) for edge in node] for node in getattr(self, kind)]
            for kind in KINDS
        }

    @classmethod
    def from_dict(cls, plain: Any) -> "Genotype":
        """The inverse of `as_dict`.

        Raises:
          InputError: if it is no genotype.
        """
        if not isinstance(plain, Mapping) or {*plain} != {*KINDS}:
            raise InputError(
                'a genotype must be an object of "normal" and "reduction", got '
                f"{str(plain)[:40]!r}"
            )
        try:
            cells = (tuple(map(_node, plain[kind])) for kind in KINDS)
            normal, reduction = cells
        except (TypeError, ValueError) as error:
            raise InputError(
                'a node of a genotype must be a list of ["operation", source] '
                f"({error})"
            ) from error
        return cls(normal, reduction)


def _node(plain: Any) -> Node:
    return tuple((operation, source) for operation, source in plain)


def _check_node(where: str, edges: Node, node: int) -> None:
    for operation, source in edges:
        if operation not in OPERATIONS or operation == NONE:
            raise InputError(
                f"{where} has an operation {operation!r}; it must be one of "
                f"{', '.join(name for name in OPERATIONS if name != NONE)}"
            )
        check_count(f"a source of {where}", source, least=0, most=node - 1)
    if not edges or len({source for _, source in edges}) < len(edges):
        raise InputError(f"{where} must have edges from different states, got {edges}")
