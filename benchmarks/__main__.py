"""The speed suite: rivals on fixed work, in one run.

    python -m benchmarks w1-5steps-4tasks w3-5steps-25tasks [--rivals NAME ...]

For each workload: every rival's meta-gradient in float64, of two tasks, is compared
with the textbook's reverse-over-reverse; then each compiles in a process of its own,
and the processes take meta-steps in turn, A B C A B C. Medians and quartiles over the
turns, compile time apart, peak memory of each process, or of the GPU with `--device
gpu`. A rival whose gradient is wrong is timed, and marked; one that is not installed,
or runs out of memory, is left out.
"""

import contextlib
import datetime
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from benchmarks.rivals import RIVALS
from benchmarks.workloads import workload

ORACLE = "textbook JAX, map"
EXACT = 1e-9  # the largest relative distance to the oracle of a right gradient
CHECKED_TASKS = 2  # in float64
PAUSE = 0.3  # seconds: threads of the process before stop spinning
PACKAGES = ("jax", "jaxlib", "optax", "torch", "higher", "torchopt", "numpy")


@dataclass(frozen=True)
class Suite:
    """Times rivals on fixed work."""

    workloads: tyro.conf.Positional[tuple[str, ...]]
    """Such as w1-5steps-4tasks."""
    rivals: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = field(
        default=tuple(RIVALS)
    )
    """Which; all by default."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where."""
    rounds: int = 7
    """Turns of each."""
    turn: float = 1.5
    """Seconds of meta-steps in a row that make a turn; one at least."""
    seconds: float = 60.0
    """For a rival's steps on a workload; a slow one takes fewer rounds."""
    check: bool = True
    """Compare the float64 gradients first."""
    to: Path | None = None
    """A file of JSON for the record."""


class Absent(Exception):
    """A rival that did not start, or that ended: not installed, or out of memory."""


class Worker:
    """A rival in its own process."""

    def __init__(self, rival: str, work: str, device: str, dtype: str = "float32"):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", rival, work, dtype, device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> Any:
        """The answer to a command."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(command, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Absent from None
        answer = self._process.stdout.readline()
        if not answer:
            raise Absent
        return json.loads(answer)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # a command it never read
            self._process.communicate()


def main(suite: Suite) -> None:
    """Runs the suite and prints a table a workload."""
    for name in suite.workloads:
        workload(name)
    record = {"machine": _machine(), "device": suite.device, "results": {}}
    for name in suite.workloads:
        wrong = _distances(name, suite) if suite.check else {}
        rows = _time(name, suite)
        if suite.rivals[0] not in rows:
            raise SystemExit(f"{suite.rivals[0]}, to which others are compared, ended")
        for rival, row in rows.items():
            row["gradient_distance"] = wrong.get(rival)
        record["results"][name] = rows
        print(_table(name, rows), flush=True)
        if suite.to is not None:
            suite.to.write_text(json.dumps(record, indent=1) + "\n")


def _distances(name: str, suite: Suite) -> dict[str, float]:
    """Of each float64 meta-gradient to the oracle's, relative, on a few tasks."""
    few = name.replace(
        f"-{workload(name).tasks}tasks",
        f"-{min(CHECKED_TASKS, workload(name).tasks)}tasks",
    )
    flat = {}
    with tempfile.TemporaryDirectory() as folder:
        for rival in dict.fromkeys((ORACLE, *suite.rivals)):
            path = Path(folder) / "gradient.npz"
            with Worker(rival, few, suite.device, "float64") as worker:
                try:
                    worker.ask(f"gradient {path}")
                except Absent:
                    print(f"no gradient of {rival} at {few}: it ended", file=sys.stderr)
                    continue
            with np.load(path) as arrays:
                flat[rival] = np.concatenate(
                    [arrays[key].ravel() for key in sorted(arrays.files)]
                )
    if ORACLE not in flat:
        raise SystemExit(f"{ORACLE} ended: nothing to compare with (or --no-check)")
    truth = flat[ORACLE]
    return {
        rival: float(np.linalg.norm(x - truth) / np.linalg.norm(truth))
        for rival, x in flat.items()
    }


def _time(name: str, suite: Suite) -> dict[str, dict[str, Any]]:
    workers = {rival: Worker(rival, name, suite.device) for rival in suite.rivals}
    rows: dict[str, dict[str, Any]] = {rival: {"steps_s": []} for rival in workers}
    spent = dict.fromkeys(workers, 0.0)

    def compile_(rival: str, worker: Worker) -> None:
        rows[rival]["compile_s"] = worker.ask("compile")
        worker.ask("steps 1")
        one = worker.ask("steps 1")
        rows[rival]["in_a_row"] = max(1, math.ceil(suite.turn / one))

    def turn(rival: str, worker: Worker) -> None:
        if spent[rival] < suite.seconds:
            count = rows[rival]["in_a_row"]
            time.sleep(PAUSE)
            seconds = worker.ask(f"steps {count}")
            rows[rival]["steps_s"].append(seconds)
            spent[rival] += seconds * count

    def each(do: Callable[[str, Worker], object]) -> None:
        for rival, worker in list(workers.items()):
            try:
                do(rival, worker)
            except Absent:
                print(f"left out at {name}: {rival} ended", file=sys.stderr)
                workers.pop(rival).__exit__()
                del rows[rival]

    try:
        # All set up first, or the imports of one would slow another's compilation.
        each(lambda rival, worker: rows[rival].update(device=worker.ask("ready")))
        each(compile_)
        for _ in range(suite.rounds):
            each(turn)
        each(lambda rival, worker: rows[rival].update(worker.ask("memory")))
    finally:
        for worker in workers.values():
            worker.__exit__()
    return rows


def _table(name: str, rows: dict[str, dict[str, Any]]) -> str:
    ours = np.median(next(iter(rows.values()))["steps_s"])
    lines = [
        f"**{name}**",
        "",
        "| | ms a meta-step (quartiles) | ratio | compile s | peak MB | gradient |",
        "|---|---|---|---|---|---|",
    ]
    for rival, row in rows.items():
        low, middle, high = (
            1e3 * q for q in np.quantile(row["steps_s"], [0.25, 0.5, 0.75])
        )
        distance = row["gradient_distance"]
        gradient = "not compared" if distance is None else f"{distance:.1e}"
        if distance is not None and distance > EXACT:
            gradient += " not exact"
        lines.append(
            f"| {rival} | {middle:.1f} ({low:.1f}-{high:.1f}) | "
            f"{middle / 1e3 / ours:.2f} | {row['compile_s']:.1f} | "
            f"{row['peak'] / 1e6:.0f} | {gradient} |"
        )
    return "\n".join([*lines, ""])


def _machine() -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*: (.*)", described)
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main(tyro.cli(Suite, description=__doc__))
