"""How much of everything is measured on a GPU, and in a rehearsal on a CPU."""

import os
from typing import Any, NamedTuple

JAX_RIVALS = ("metajax", "textbook JAX, vmap", "textbook JAX, map", "jax-meta's form")
BATCHED = (*JAX_RIVALS[:3], "torch.func vmap of grad")
EVERY = (
    *JAX_RIVALS,
    "torch.autograd loop",
    "torch.func vmap of grad",
    "higher",
    "torchopt MetaSGD",
)
Works = tuple[tuple[str, tuple[str, ...]], ...]


class Transformer(NamedTuple):
    """A transformer, and the inner steps and tasks of a meta-step on it."""

    tokens: int
    width: int
    depth: int
    tasks: int
    steps: int

    @property
    def title(self) -> str:
        """In words."""
        return (
            f"{self.tokens} tokens, width {self.width}, {self.depth} blocks, "
            f"{self.tasks} tasks, {self.steps} inner steps"
        )

    def work(self) -> Any:
        """As `benchmarks.large` has it."""
        import metajax as mj
        from benchmarks.large import WAYS, Work

        model = mj.transformer(
            16, WAYS, tokens=self.tokens, width=self.width, depth=self.depth
        )
        return Work(model, (self.tokens, 16), self.tasks, self.steps)


class Size(NamedTuple):
    """Of each section.

    Attributes:
      side: of the matrices whose products are timed; None for the default.
      together: processes that compile at a time.
      gradient: workloads whose gradients are compared.
      compared: rivals that are.
      forms: families, tasks and examples whose layers are timed.
      rivals: workloads, and who is timed on each.
      few: workloads on which variants of ours are timed.
      rounded: workloads on which the gradients of fewer bits are compared.
      turn: seconds of a turn.
      rival_seconds: for a rival's turns on a workload.
      roofline: a family, inner steps, and the meta-batches, the most valuable first.
      point_seconds: for each of them.
      transformers: whose memory is compared.
      first_step: workloads.
    """

    side: int | None
    together: int
    gradient: tuple[str, ...]
    compared: tuple[str, ...]
    forms: tuple[tuple[str, int, int], ...]
    rivals: Works
    few: tuple[str, ...]
    rounded: tuple[str, ...]
    turn: float
    rival_seconds: float
    roofline: tuple[str, int, tuple[int, ...]]
    point_seconds: float
    transformers: tuple[Transformer, ...]
    first_step: tuple[str, ...]


SIZES = {
    "gpu": Size(
        side=None,
        together=min(12, os.cpu_count() or 1),
        gradient=("w3-5steps-25tasks", "w1-5steps-2tasks"),
        compared=(
            "metajax",
            "metajax, reverse",
            "textbook JAX, map",
            "textbook JAX, vmap",
            "torch.autograd loop",
            "torch.func vmap of grad",
        ),
        forms=(("w1", 32, 75), ("w2", 4, 75), ("w1", 4, 75)),
        rivals=(
            ("w1-5steps-4tasks", EVERY),
            ("w3-5steps-1000tasks", BATCHED),
            ("w2-5steps-4tasks", (*BATCHED, "torch.autograd loop")),
            ("w1-5steps-64tasks", BATCHED),
            ("w3-5steps-25tasks", EVERY),
            ("w1-5steps-32tasks", BATCHED),
        ),
        few=("w1-5steps-4tasks", "w3-5steps-1000tasks"),
        rounded=("w1-1steps-2tasks", "w3-5steps-25tasks"),
        turn=0.3,
        rival_seconds=5.0,
        roofline=("w1", 5, (4, 64, 1024, 256, 16, 1, 4096)),
        point_seconds=1.0,
        transformers=(Transformer(8, 64, 4, 4, 20), Transformer(64, 256, 4, 4, 5)),
        first_step=("w3-5steps-25tasks", "w1-5steps-4tasks"),
    ),
    "cpu": Size(
        side=512,
        together=2,
        gradient=("w3-2steps-2tasks",),
        compared=("metajax", "textbook JAX, map", "torch.autograd loop"),
        forms=(("w1", 1, 1),),
        rivals=(
            ("w3-2steps-2tasks", ("metajax", "textbook JAX, vmap", *EVERY[4:])),
            ("w1-1steps-1tasks-8filters", ("metajax", "torch.autograd loop")),
        ),
        few=("w3-2steps-2tasks",),
        rounded=("w3-2steps-2tasks",),
        turn=0.02,
        rival_seconds=1.0,
        roofline=("w3", 2, (1, 4)),
        point_seconds=0.1,
        transformers=(Transformer(4, 8, 1, 1, 2),),
        first_step=("w3-2steps-2tasks",),
    ),
}
