"""The rivals: each computes the same meta-step in its own way.

A rival is a `Rival`: a module here, and settings for its `Run`. `Run(work, weights,
episodes, dtype, **settings)` has

- `compile() -> float`, seconds until the first step could begin;
- `steps(n)`, n meta-steps in a row, finished when it returns;
- `device() -> str`, its name;
- `gradient() -> dict`, the meta-gradient at the first weights, by their names;
- `memory() -> dict`, the `peak` bytes so far, where the device counts them, and the
  `temporary` ones of the compiled step, where they are known.
"""

import importlib.util
from typing import Any, NamedTuple


class Rival(NamedTuple):
    """Where a rival is.

    Attributes:
      module: in this package.
      settings: keyword arguments of its `Run`.
      devices: virtual CPU devices that its process starts with.
      needs: modules that must be installed.
    """

    module: str
    settings: dict[str, Any] = {}
    devices: int = 1
    needs: tuple[str, ...] = ()

    @property
    def lacking(self) -> list[str]:
        """Those of its modules that are not installed."""
        return [name for name in self.needs if not importlib.util.find_spec(name)]


RIVALS = {
    "metajax": Rival("ours", {}, devices=2),
    "metajax, one device": Rival("ours", {"devices": 1}),
    "metajax, reverse": Rival("ours", {"grad": "reverse"}, devices=2),
    "metajax, first order": Rival("ours", {"grad": "first_order"}, devices=2),
    "metajax, tensorfloat32": Rival("ours", {"precision": "tensorfloat32"}, devices=2),
    "metajax, bfloat16": Rival("ours", {"precision": "bfloat16"}, devices=2),
    "textbook JAX, vmap": Rival("textbook", {"over_tasks": "vmap"}),
    "textbook JAX, map": Rival("textbook", {"over_tasks": "map"}),
    "jax-meta's form": Rival("textbook", {"over_tasks": "vmap", "inner": "scan"}),
    "torch.autograd loop": Rival(
        "torch_autograd", {"over_tasks": "loop"}, needs=("torch",)
    ),
    "torch.func vmap of grad": Rival(
        "torch_autograd", {"over_tasks": "vmap"}, needs=("torch",)
    ),
    "higher": Rival("torch_higher", needs=("torch", "higher")),
    "torchopt MetaSGD": Rival("torch_torchopt", needs=("torch", "torchopt")),
}


def installed() -> tuple[str, ...]:
    """The names of the rivals that can run here."""
    return tuple(name for name, rival in RIVALS.items() if not rival.lacking)
