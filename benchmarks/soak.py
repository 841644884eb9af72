"""Trains again and again in one process, and says whether it grows.

    python -m benchmarks.soak [--minutes 60] [--parts checkpoints]

Each round fits the same learner with checkpoints and all observers, goes on with it
from the checkpoint, evaluates it with unfinished scores, and notes resident memory,
open files, threads, child processes and compilations. --parts leaves the other parts
out, to find which one grows. In the end a line is fitted to what came after the
warm-up: to means of blocks, as neighbouring rounds are alike.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import optax
from rich.console import Console

import metajax as mj
from benchmarks.command import run_command
from benchmarks.settings import Amount, Count, some_of
from metajax.reporting import JsonLines, Progress, TensorBoard
from metajax.training.checkpoints import Checkpoints

BLOCKS = 20
PARTS = "checkpoints", "events", "rows", "progress"
WARM_UP = 0.2  # of the rounds
SURE = 3.0  # standard errors


@dataclass(frozen=True)
class Settings:
    """How long it trains."""

    minutes: Amount = 60.0
    """Minutes of rounds, of which there are at least 40."""
    every: Count = 20
    """Rounds between two lines of the log."""
    parts: Annotated[tuple[str, ...], some_of("part", PARTS)] = PARTS
    """What takes part beside fit and evaluate."""


class Usage(NamedTuple):
    """What the process holds, after a round."""

    resident_kib: int
    files: int
    threads: int
    children: int
    compilations: int


def usage(compiled: list[str]) -> Usage:
    """Now; of Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    tasks = list(Path("/proc/self/task").iterdir())
    children = sum(len((task / "children").read_text().split()) for task in tasks)
    return Usage(
        pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        len(os.listdir("/proc/self/fd")),
        len(tasks),
        children,
        len(compiled),
    )


LEARNER = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
OPTIMIZER, EPISODES = optax.adam(1e-3), mj.data.sinusoid()


def work(folder: Path, console: Console, parts: Sequence[str] = PARTS) -> None:
    """One round."""
    for steps in (100, 200):
        board, bar = TensorBoard(folder / "events"), Progress(200, 4, console=console)
        saved = Checkpoints(folder / "checkpoints")
        with board as events, bar as progress:
            rows = JsonLines(folder / "metrics.jsonl")
            observers = {"rows": rows, "events": events, "progress": progress}
            state = mj.fit(
                LEARNER,
                OPTIMIZER,
                EPISODES,
                steps=steps,
                tasks=4,
                steps_per_call=25,
                checkpoints=saved if "checkpoints" in parts else None,
                checkpoint_every=25,
                observers=tuple(x for name, x in observers.items() if name in parts),
            )
    mj.evaluate(
        LEARNER,
        state.meta,
        EPISODES,
        mj.mse,
        tasks=500,
        unfinished=folder / "unfinished.npz",
    )


def slope(values: np.ndarray) -> tuple[float, float]:
    """A round, with its standard error: a line through the means of blocks."""
    blocks = np.array_split(np.arange(len(values), dtype=float), BLOCKS)
    x = np.array([block.mean() for block in blocks])
    y = np.array([values[block.astype(int)].mean() for block in blocks])
    x, y = x - x.mean(), y - y.mean()
    rise = x @ y / (x @ x)
    error = np.sqrt(np.sum((y - rise * x) ** 2) / (BLOCKS - 2) / (x @ x))
    return float(rise), float(error)


def verdict(rows: list[Usage]) -> str:
    """A line a quantity."""
    kept = np.array(rows[int(WARM_UP * len(rows)) :], float)
    lines = [f"{len(rows)} rounds, of which {len(kept)} after the warm-up"]
    for name, values in zip(Usage._fields, kept.T):
        rise, error = slope(values)
        flat = abs(rise) <= SURE * error
        lines.append(
            f"{name}: {values[0]:.0f} to {values[-1]:.0f}, {rise:+.3f} ± {error:.3f} a "
            f"round: {'flat' if flat else 'NOT flat'}"
        )
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Runs for so long, and prints the verdict."""
    compiled, rows = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: (
            compiled.append(event)
            if event == "/jax/core/compile/backend_compile_duration"
            else None
        )
    )
    until = time.monotonic() + 60 * settings.minutes
    print(*Usage._fields)
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere)
        while time.monotonic() < until or len(rows) < 2 * BLOCKS:
            folder = Path(tempfile.mkdtemp())
            work(folder, console, settings.parts)
            shutil.rmtree(folder)
            compiled_now = list(compiled)
            compiled.clear()
            rows.append(usage(compiled_now))
            if len(rows) % settings.every == 1:
                print(len(rows), *rows[-1], flush=True)
    print(verdict(rows))


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.soak", __doc__))
