"""Tensors of PyTorch's names and layouts, as parameters of ours."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax._pytrees.constant import Constant
from metajax.errors import InputError
from metajax.types import Params

Shape = tuple[int | None, ...]
"""Of a tensor; None for any number."""


class Weights:
    """The tensors of a file, from which a family of networks takes what it knows.

    Each method takes one layer's tensors by the layer's name, checks them, and turns
    them into the layouts of `metajax.ops`. `params` gives the tree of all that were
    taken, nested by the dots of their names.

    Args:
      path: the file, for errors.
      tensors: by name.
      dtype: the type of the parameters.

    >>> import numpy as np
    >>> tensors = {"mlp.fc1.weight": np.zeros((8, 3), np.float32)}
    >>> weights = Weights(Path("model.safetensors"), tensors, jnp.float32)
    >>> weights.linear("mlp.fc1", 3, 8)
    >>> weights.params()["mlp"]["fc1"]["kernel"].shape
    (3, 8)
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, np.ndarray],
        dtype: jnp.dtype | type,
    ):
        self.path = path
        self._left = dict(tensors)
        self._dtype = dtype
        self._tree: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def count(self, layer: str) -> int:
        """How many blocks a layer has: one more than the largest number of its own.

        Args:
          layer: the name before the blocks' numbers, such as "blocks".
        """
        start = re.compile(re.escape(layer) + r"\.(\d+)\.")
        numbers = [int(match[1]) for name in self._left if (match := start.match(name))]
        return max(numbers, default=-1) + 1

    def shape(self, name: str, axes: int) -> tuple[int, ...]:
        """The shape of a tensor that has to be there.

        Raises:
          InputError: if it is not, or has another number of axes.
        """
        if name not in self:
            raise InputError(
                f"{self.path} lacks {name}, which was expected; give the whole file "
                "as timm names its tensors, or the config.json that belongs to it"
            )
        shape = self._left[name].shape
        if len(shape) != axes:
            raise InputError(
                f"{self.path}: {name} has shape {list(shape)}, expected {axes} axes; "
                "give a network of the families that metajax.models.load_backbone lists"
            )
        return shape

    def array(self, name: str, shape: Shape, to: str | None = None) -> None:
        """Takes a tensor as it is.

        Args:
          name: its name.
          shape: what it has to have.
          to: the name of the parameter; the tensor's by default.

        Raises:
          InputError: if it is not there, has another shape, or has numbers that are
            not finite.
        """
        self._put(name if to is None else to, self._take(name, shape))

    def linear(self, name: str, inputs: int, outputs: int | None) -> None:
        """Takes a linear layer; a convolution of 1x1 counts as one. See `array`."""
        axes = self._left[f"{name}.weight"].ndim if f"{name}.weight" in self else 2
        weight = self._take(f"{name}.weight", (outputs, inputs, 1, 1)[: max(axes, 2)])
        self._put(f"{name}.kernel", weight.reshape(weight.shape[:2]).T)
        self._bias(name, len(weight))

    def convolution(self, name: str, window: int, inputs: int, outputs: int) -> None:
        """Takes a convolution of `inputs` channels a group. See `array`."""
        weight = self._take(f"{name}.weight", (outputs, inputs, window, window))
        self._put(f"{name}.kernel", weight.transpose(2, 3, 1, 0))
        self._bias(name, outputs)

    def norm(self, name: str, size: int) -> None:
        """Takes a layer norm. See `array`."""
        self.array(f"{name}.weight", (size,), f"{name}.scale")
        self.array(f"{name}.bias", (size,), f"{name}.offset")

    def batch_norm(self, name: str, size: int) -> None:
        """Takes a batch norm, whose running statistics are constants. See `array`."""
        self.norm(name, size)
        for theirs, ours in (("running_mean", "mean"), ("running_var", "variance")):
            array = self._take(f"{name}.{theirs}", (size,))
            self._put(f"{name}.{ours}", array)
            self._node(name)[ours] = Constant(self._node(name)[ours])
        self._left.pop(f"{name}.num_batches_tracked", None)

    def check_alike(self, layer: str) -> None:
        """Checks that the blocks of a layer have the same parameters.

        Args:
          layer: the name under which they are numbered.

        Raises:
          InputError: if a block has one that another lacks.
        """
        blocks = {
            number: {jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(x)}
            for number, x in self._node(layer).items()
        }
        every = set().union(*blocks.values())
        for number, names in blocks.items():
            for name in sorted(every - names):
                raise InputError(
                    f"{self.path}: {layer}.{number} lacks {name}, which other blocks "
                    "have; give the whole file"
                )

    def params(self, head: tuple[str, ...] = ()) -> Params:
        """The tree of all that was taken.

        Args:
          head: what the names of the classifier's tensors, which are left out, start
            with.

        Raises:
          InputError: if there are other tensors.
        """
        foreign = [name for name in self._left if not name.startswith(head)]
        if foreign:
            raise InputError(
                f"{self.path} has {foreign[0]}, and {len(foreign) - 1} more, which the "
                "network of its config.json does not have; give the config.json that "
                "belongs to it"
            )
        return self._tree

    def _take(self, name: str, shape: Shape) -> np.ndarray:
        self.shape(name, len(shape))
        array = self._left.pop(name)
        if any(want not in (None, got) for want, got in zip(shape, array.shape)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise InputError(
                f"{self.path}: {name} has shape {list(array.shape)}, expected "
                f"[{wanted}]; give a file of one whole network"
            )
        array = array.astype(np.dtype(self._dtype))
        if not np.isfinite(array).all():
            raise InputError(
                f"{self.path}: {name} has numbers that are not finite; copy it again"
            )
        return array

    def _bias(self, name: str, size: int) -> None:
        if f"{name}.bias" in self:
            self.array(f"{name}.bias", (size,))

    def _put(self, name: str, array: np.ndarray) -> None:
        layer, _, leaf = name.rpartition(".")
        self._node(layer)[leaf] = jnp.asarray(array)

    def _node(self, layer: str) -> dict[str, Any]:
        node = self._tree
        for part in filter(None, layer.split(".")):
            node = node.setdefault(part, {})
        return node
