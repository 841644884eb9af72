"""Memory of a meta-gradient by inner steps, of a field of a large image.

    python -m benchmarks.fields.memory [--size 256] [--hidden 64 64 64]

The temporary memory of XLA's program for one task, compiled and not run: with all
support pixels at each step, half of the image's; with mini-batches of them; and with
every activation kept, where otherwise each step is computed again. Beside it, what is
kept of each step in any case: the parameters.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Count, Counts, NewFile
from metajax._files.writing import write_whole
from metajax.inner import whole
from metajax.types import Batch, Episode, GradTransform

RATE = 0.03


@dataclass(frozen=True)
class Settings:
    """Which programs are compiled."""

    size: Count = 256
    """Height and width of the image, in pixels."""
    hidden: Counts = (64, 64, 64)
    """Widths of SIREN's hidden layers."""
    steps: Counts = (1, 2, 4, 8)
    """Numbers of inner steps."""
    batch: Count = 4096
    """Pixels of a mini-batch."""
    to: NewFile | None = None
    """File to write the record to, as JSON."""


def main(settings: Settings) -> None:
    """Prints the table, and keeps its record."""
    rows = {name: measure(settings, name) for name in VARIANTS}
    kept = parameter_bytes(settings)
    print(f"| MB at inner steps | {' | '.join(map(str, settings.steps))} |")
    print(f"|---|{'---|' * len(settings.steps)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(f'{x / 1e6:.1f}' for x in row)} |")
    print(f"\nparameters, which are kept of each step: {kept / 1e6:.3f} MB")
    if settings.to is not None:
        record = {"steps": settings.steps, "bytes": rows, "parameter_bytes": kept}
        write_whole(settings.to, json.dumps(record, indent=2) + "\n")


def measure(settings: Settings, name: str) -> list[int]:
    """Bytes of temporary memory, for each number of steps."""
    return [
        temporary_bytes(settings, steps, *VARIANTS[name]) for steps in settings.steps
    ]


def temporary_bytes(
    settings: Settings, steps: int, grad: GradTransform, batched: bool
) -> int:
    """Of the meta-gradient of one task."""
    view = mj.mini_batches(settings.batch) if batched else whole
    learner = mj.maml(
        network(settings), mj.mse, optax.sgd(RATE), steps, grad=grad, view=view
    )
    half = settings.size**2 // 2
    shape: Callable[..., jax.ShapeDtypeStruct] = jax.ShapeDtypeStruct
    batch = Batch(shape((half, 2), np.float32), shape((half, 1), np.float32))
    gradient = jax.grad(lambda meta, episode: learner.loss(meta, episode)[0])
    meta = jax.eval_shape(learner.init, jax.random.key(0))
    compiled = jax.jit(gradient).lower(meta, Episode(batch, batch)).compile()
    analysis: Any = compiled.memory_analysis()
    return analysis.temp_size_in_bytes


def network(settings: Settings) -> mj.Model:
    """The field."""
    return mj.siren(2, settings.hidden, 1)


def parameter_bytes(settings: Settings) -> int:
    """Of the field's parameters."""
    params = jax.eval_shape(network(settings).init, jax.random.key(0))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))


VARIANTS = {
    "all pixels": (mj.exact, False),
    "mini-batches": (mj.exact, True),
    "all pixels, activations kept": (mj.kept(mj.reverse), False),
}


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.fields.memory", __doc__))
