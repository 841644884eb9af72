"""What every network's configuration has."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from metajax import rl
from metajax.errors import InputError
from metajax.models.norms import NormName
from metajax.types import Model, PyTree

Shape = tuple[int, ...]


class Network:
    """A network, for inputs of one shape and a number of outputs.

    Attributes:
      name: as `--model` takes it.
      images: whether its inputs are images.
      norm: which statistics its batch norm takes; None without batch norm.
      refuses_bfloat16: whether that precision is too low for it.
    """

    name: ClassVar[str]
    images: ClassVar[bool] = False
    norm: ClassVar[NormName | None] = None
    refuses_bfloat16: ClassVar[bool] = False

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of inputs `[examples, *shape]`.

        Raises:
          InputError: if it neither classifies nor regresses.
        """
        raise InputError(
            f"--model {self.name} does not classify, nor regress; take another"
        )

    def policy(self, environment: rl.Environment) -> rl.Policy:
        """The policy of an environment.

        Raises:
          InputError: if it makes none.
        """
        raise InputError(
            f"--model {self.name} is not for reinforcement learning; take mlp, gru or "
            "fast-weights"
        )

    def segmenter(self, shape: Shape, outputs: int) -> Model:
        """The network from images to outputs of every pixel.

        Raises:
          InputError: if it makes none.
        """
        raise InputError(f"--model {self.name} is not for segmentation; take unet")

    def detector(self, shape: Shape, ways: int, stride: int) -> Model:
        """The network from images to maps of objects, at a stride.

        Raises:
          InputError: if it makes none.
        """
        raise InputError(f"--model {self.name} is not for detection; take unet")

    @classmethod
    def for_learner(cls, makes_head: bool) -> "type[Network]":
        """The class of its options for a learner that makes its own head, or not."""
        return cls

    @property
    def searched(self) -> bool:
        """Whether its architecture is searched."""
        return False

    def discretised(self, meta: PyTree, temperature: float) -> Self | None:
        """The network that a search of its architecture ends in; None without a search.

        Args:
          meta: the meta-parameters.
          temperature: of the softmax over operations, in the search.
        """
        return None

    def draw(
        self,
        meta: PyTree,
        adapt: Callable[[int], PyTree],
        cut: PyTree,
        *,
        temperature: float,
        to: Path,
    ) -> None:
        """Draws what was learnt of the network's architecture, if anything was.

        Args:
          meta: the meta-parameters.
          adapt: `adapt(tasks)`, the adapted parameters of so many test tasks, stacked.
          cut: the meta-parameters of `discretised`; None where that is None.
          temperature: see `discretised`.
          to: the folder.
        """

    def contents(self) -> tuple[Mapping[str, str], Mapping[str, np.ndarray]]:
        """What a published run of it holds beside the parameters: texts and arrays."""
        return {}, {}

    def within(self, path: Path | None) -> Self:
        """The network of a published run, of whose file it takes its `contents`.

        Args:
          path: the file; None for the form that the file's configuration has.
        """
        return self

    @property
    def facts(self) -> Mapping[str, str]:
        """What a result names of it, beside its batch norm."""
        return {}
