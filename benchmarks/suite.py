"""Rivals in processes of their own: their gradients compared, their steps timed."""

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.settings import Amount, Count
from benchmarks.workloads import workload

ORACLE = "textbook JAX, map"
EXACT = 1e-9  # the largest relative distance to the oracle of a right gradient
CHECKED_TASKS = 2  # in float64
PAUSE = 0.3  # seconds: threads of the process before stop spinning
PACKAGES = ("jax", "jaxlib", "optax", "torch", "higher", "torchopt", "numpy")
Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Timing:
    """Where rivals run, and for how long."""

    device: Literal["cpu", "gpu"] = "cpu"
    """Device that the rivals run on."""
    rounds: Count = 7
    """Timed turns of each rival."""
    turn: Amount = 1.5
    """Seconds of a turn, of at least one meta-step."""
    seconds: Amount = 60.0
    """Seconds for all turns of a rival on a workload; a slow one takes fewer turns."""


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
        """The answer to a command.

        Raises:
          Absent: if the rival ended, with its reason where it gave one.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # its last words may be there yet
            print(command, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise Absent("its process ended")
        answer = json.loads(answer)
        if isinstance(answer, dict) and "error" in answer:
            raise Absent(answer["error"])
        return answer

    def kill(self) -> None:
        """Ends the process; whoever waits for an answer finds it absent."""
        self._process.kill()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # a command it never read
            self._process.communicate()


def gradients(
    rivals: Iterable[str],
    work: str,
    device: str,
    dtype: str = "float64",
    *,
    together: int = 1,
) -> Iterator[tuple[str, np.ndarray | Absent]]:
    """The meta-gradients of rivals, each as one vector.

    Args:
      rivals: names of `benchmarks.rivals.RIVALS`.
      work: a workload's name.
      device: "cpu" or "gpu".
      dtype: of weights and episodes.
      together: processes at a time.

    Yields:
      A rival and its vector, or why it has none, as they come.
    """

    def gradient(rival: str) -> np.ndarray | Absent:
        with (
            tempfile.TemporaryDirectory() as folder,
            Worker(rival, work, device, dtype) as worker,
        ):
            path = Path(folder) / "gradient.npz"
            try:
                worker.ask(f"gradient {path}")
            except Absent as why:
                print(f"no gradient of {rival} at {work}: {why}", file=sys.stderr)
                return why
            with np.load(path) as arrays:
                parts = [arrays[key].ravel() for key in sorted(arrays.files)]
        return np.concatenate(parts)

    with ThreadPoolExecutor(together) as pool:
        jobs = {pool.submit(gradient, rival): rival for rival in rivals}
        for job in as_completed(jobs):
            yield jobs[job], job.result()


def distance(x: np.ndarray, truth: np.ndarray) -> float:
    """The relative L2 distance of a vector to the true one."""
    return float(np.linalg.norm(x - truth) / np.linalg.norm(truth))


def of_few_tasks(name: str) -> str:
    """The workload of at most `CHECKED_TASKS` tasks, whose gradients are compared."""
    tasks = workload(name).tasks
    return name.replace(f"-{tasks}tasks", f"-{min(CHECKED_TASKS, tasks)}tasks")


def time_rivals(
    name: str,
    rivals: Iterable[str],
    timing: Timing,
    *,
    until: float = math.inf,
    seen: Callable[[Rows], None] = lambda rows: None,
) -> Rows:
    """Times rivals in turns, A B C A B C.

    Args:
      name: of the workload.
      rivals: names of `benchmarks.rivals.RIVALS`.
      timing: where, and how many turns.
      until: no round but the first begins after that time of `time.monotonic()`.
      seen: called with the rows so far after every compilation and turn.

    Returns:
      A row a rival. One that ended has a reason, `absent`, in place of more turns.
    """
    rows: Rows = {rival: {"steps_s": []} for rival in rivals}
    spent, workers = dict.fromkeys(rows, 0.0), {}

    def compile_(rival: str, worker: Worker) -> None:
        rows[rival]["compile_s"] = worker.ask("compile")
        _, one = (worker.ask("steps 1") for _ in range(2))
        rows[rival]["in_a_row"] = max(1, math.ceil(timing.turn / one))
        seen(rows)

    def turn(rival: str, worker: Worker) -> None:
        if spent[rival] < timing.seconds:
            count = rows[rival]["in_a_row"]
            time.sleep(PAUSE)
            seconds = worker.ask(f"steps {count}")
            rows[rival]["steps_s"].append(seconds)
            rows[rival] |= worker.ask("memory")
            spent[rival] += seconds * count
            seen(rows)

    def each(do: Callable[[str, Worker], object]) -> None:
        for rival, worker in list(workers.items()):
            try:
                do(rival, worker)
            except Absent as why:
                print(f"left out at {name}: {rival}, {why}", file=sys.stderr)
                workers.pop(rival).kill()
                rows[rival]["absent"] = str(why)
                seen(rows)

    with contextlib.ExitStack() as running:
        for rival in rows:
            workers[rival] = running.enter_context(Worker(rival, name, timing.device))
        # All set up first, or the imports of one would slow another's compilation.
        each(lambda rival, worker: rows[rival].update(device=worker.ask("ready")))
        each(compile_)
        for done in range(timing.rounds):
            if done and time.monotonic() > until:
                break
            each(turn)
    return rows


def present(rows: Rows) -> Rows:
    """The rows of rivals that were there to the end."""
    return {rival: row for rival, row in rows.items() if "absent" not in row}


def table(name: str, rows: Rows) -> str:
    """The rows of a workload in Markdown, and who was left out."""
    absent = [f"{n} ({row['absent']})" for n, row in rows.items() if "absent" in row]
    rows = {rival: row for rival, row in present(rows).items() if "compile_s" in row}
    first = next(iter(rows.values()), {"steps_s": []})
    lines = [
        f"**{name}**",
        "",
        "| | ms a meta-step (quartiles) | ratio | compile s | peak MB | gradient |",
        "|---|---|---|---|---|---|",
        *(_row(rival, row, first["steps_s"]) for rival, row in rows.items()),
    ]
    if absent:
        lines += ["", f"Left out: {'; '.join(absent)}."]
    return "\n".join([*lines, ""])


def _row(rival: str, row: Mapping[str, Any], ours: list[float]) -> str:
    if not row["steps_s"]:  # ended in between
        return f"| {rival} | | | {row['compile_s']:.1f} | | |"
    low, middle, high = (
        1e3 * q for q in np.quantile(row["steps_s"], [0.25, 0.5, 0.75])
    )
    ratio = f"{middle / 1e3 / np.median(ours):.2f}" if ours else ""
    wrong = row.get("gradient_distance")
    gradient = "not compared" if wrong is None else f"{wrong:.1e}"
    if wrong is not None and wrong > EXACT:
        gradient += " not exact"
    return (
        f"| {rival} | {middle:.1f} ({low:.1f}-{high:.1f}) | {ratio} | "
        f"{row['compile_s']:.1f} | {row['peak'] / 1e6:.0f} | {gradient} |"
    )


def machine() -> dict[str, Any]:
    """The date, the processor and the versions."""
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
    match = re.search(r"model name\s*: (.*)", described)
    return match[1] if match else platform.machine()
