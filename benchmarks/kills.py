"""Kills `metajax train` at random moments, and compares what comes of it.

    python -m benchmarks.kills [--kills 200] [--minutes 60] [--steps 2000]

A run is killed, by SIGKILL or by SIGTERM, and started again by the same command, until
it ends by itself. Its parameters (the digests of the last checkpoint and of the best),
metrics.jsonl and evaluation.json must then be, byte for byte, those of a run that was
left alone; and after each kill, it must go on from the newest checkpoint on disk.

The phases of a run are drawn by `SHARES`, and the moment in one uniformly: by the
clock, and in training by the meta-step. All processes share a cache of compiled
programs, which the first fills: most of a kill's time is starting again.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import run_command
from benchmarks.settings import Amount, Count, Seed
from metajax.reporting import read_rows

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
SHARES = {"start-up": 1, "compilation": 1, "training": 6, "evaluation": 2}
PHASES = (*SHARES, "the end")
JITTER = 0.3  # seconds after a meta-step of training
SAYS = {  # what a process says when a phase begins
    "compilation": re.compile(r"^step (\d+)/\d+ compiling", re.MULTILINE),
    "training": re.compile(r"^step \d+/\d+  loss", re.MULTILINE),
    "evaluation": re.compile(r"^evaluating ", re.MULTILINE),
}
WRITING = "*.orbax-checkpoint-tmp*"
COMPARED = ("metrics.jsonl", "evaluation.json", "evaluation.txt")
KEPT = ("checkpoints", "best")


@dataclass(frozen=True)
class Settings:
    """How many kills, and what a run is."""

    kills: Count = 200
    """Number of kills, over as many runs as they take."""
    minutes: Amount = 60.0
    """Minutes after which no new run is started."""
    steps: Count = 2000
    """Meta-steps of a run, with 20 checkpoints at most."""
    tasks: Count = 2000
    """Test tasks of a run's evaluation."""
    seed: Seed = 0
    """Random seed for drawing the moments of the kills."""


class Kill(NamedTuple):
    """One kill.

    Attributes:
      signal: which.
      phase: what the process was at.
      writing: whether it was writing a checkpoint.
      status: its exit status.
      kept: the meta-step of the newest checkpoint that it left.
    """

    signal: str
    phase: str
    writing: bool
    status: int
    kept: int


class Process:
    """A `metajax train`, and what it has said."""

    def __init__(self, folder: Path, settings: Settings):
        self.folder, self._log = folder, folder.with_suffix(".log")
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder.with_name("compiled")),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        command = f"train sinusoid --outer.steps {settings.steps} --outer.tasks 2"
        command += f" --evaluation.tasks {settings.tasks} --run-dir {folder}"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "metajax", *command.split()],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=os.environ | cache,
            )

    def said(self) -> str:
        """All that it has said."""
        return self._log.read_text()

    def phase(self) -> str:
        """What it is at."""
        if (self.folder / "evaluation.json").exists():
            return "the end"
        said = self.said()
        begun = [name for name, says in SAYS.items() if says.search(said)]
        return begun[-1] if begun else "start-up"

    def trained(self) -> int:
        """The meta-steps that it has told of."""
        rows = read_rows(self.folder / "metrics.jsonl")
        return max((row["step"] for row in rows), default=0)

    def writing(self) -> set[Path]:
        """The checkpoints that are begun and not finished."""
        return {path for kept in KEPT for path in (self.folder / kept).glob(WRITING)}

    def running(self) -> bool:
        """Whether it has not ended; asked again in five milliseconds."""
        if self.process.poll() is not None:
            return False
        time.sleep(0.005)
        return True


def newest(folder: Path) -> int:
    """The meta-step of the newest checkpoint; 0 if there is none."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return max((int(path.name) for path in paths if path.name.isdigit()), default=0)


def outcome(run: Path) -> dict[str, str | bytes]:
    """All that must be alike of two runs."""
    result: dict[str, str | bytes] = {
        name: (run / name).read_bytes() for name in COMPARED
    }
    for kept in KEPT:
        path = run / kept / str(newest(run / kept)) / "manifest" / "metadata"
        result[kept] = json.dumps(json.loads(path.read_text()), sort_keys=True)
    result["files"] = " ".join(sorted(path.name for path in run.iterdir()))
    return result


def left_alone(folder: Path, settings: Settings) -> dict[str, float]:
    """Seconds of each phase of a run that is not killed."""
    began, durations = time.monotonic(), dict.fromkeys(PHASES, 0.0)
    process = Process(folder, settings)
    while process.running():
        now = time.monotonic()
        durations[process.phase()] += now - began
        began = now
    assert process.process.returncode == 0, process.said()
    return durations


class Moment(NamedTuple):
    """When a process is to be killed: so long after a phase and a meta-step."""

    phase: str
    step: int
    delay: float


def moment(
    before: int, settings: Settings, durations: dict[str, float], chance: random.Random
) -> Moment | None:
    """Of a run that has a checkpoint of `before`; None to let it end."""
    shares, step = dict(SHARES), 0
    if before == settings.steps:
        shares = {"start-up": 1, "evaluation": 4, "the end": 5}
    (phase,) = chance.choices(list(shares), list(shares.values()))
    if phase == "the end":
        return None
    delay = chance.uniform(0.0, durations[phase])
    if phase == "training":
        step, delay = chance.randint(before, settings.steps), chance.uniform(0, JITTER)
    return Moment(phase, step, delay)


def killed(process: Process, number: signal.Signals, when: Moment) -> Kill | None:
    """Kills it then; None if it ended before."""
    before = process.writing()

    def early() -> bool:
        phase = PHASES.index(process.phase())
        if when.phase == "training" and phase == PHASES.index("training"):
            return process.trained() < when.step
        return phase < PHASES.index(when.phase)

    while early():
        if not process.running():
            return None
    until = time.monotonic() + when.delay
    while time.monotonic() < until:
        if not process.running():
            return None
    phase, writing = process.phase(), bool(process.writing() - before)
    process.process.send_signal(number)
    status = process.process.wait()
    if number == signal.SIGKILL:  # what it left behind is surer
        writing = bool(process.writing() - before)
    kept = newest(process.folder / "checkpoints")
    return Kill(number.name, phase, writing, status, kept)


def check(process: Process, kill: Kill, before: int) -> None:
    """What must hold after every kill."""
    saved = {143} if kill.phase in ("compilation", "training") else {143, 0}
    # Before there is something to save, and after all is, it acts as by default.
    default = {"start-up", "evaluation", "the end"} & {kill.phase}
    expected = saved | ({-signal.SIGTERM} if default else set())
    expected = {"SIGKILL": {-signal.SIGKILL}, "SIGTERM": expected}[kill.signal]
    assert kill.status in expected, (kill, process.said())
    assert kill.kept >= before, f"a checkpoint was lost: {before}, {kill}"
    assert "Traceback" not in process.said(), process.said()
    if kill.status == 143:
        assert "and saved; the same command goes on" in process.said(), process.said()
    if resumed := SAYS["compilation"].search(process.said()):
        step = int(resumed[1])
        assert step == before, f"went on from {step}, the newest was {before}"


def chain(
    folder: Path, settings: Settings, durations: dict[str, float], chance: random.Random
) -> Iterator[Kill]:
    """The kills of one run, until it ends."""
    while True:
        before = newest(folder / "checkpoints")
        when = moment(before, settings, durations, chance)
        process = Process(folder, settings)
        kill = when and killed(process, chance.choice(SIGNALS), when)
        if kill is None:
            assert process.process.wait() == 0, process.said()
            return
        check(process, kill, before)
        yield kill


def table(kills: list[Kill]) -> str:
    """Kills by phase and signal."""
    lines = ["| killed in | SIGKILL | SIGTERM | writing a checkpoint |"]
    lines.append("|---|---|---|---|")
    for phase in PHASES:
        those = [kill for kill in kills if kill.phase == phase]
        by = Counter(kill.signal for kill in those)
        writing = sum(kill.writing for kill in those)
        lines.append(f"| {phase} | {by['SIGKILL']} | {by['SIGTERM']} | {writing} |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Kills, compares, and prints the table."""
    chance, kills = random.Random(settings.seed), []
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        left_alone(whole, settings)  # compiles
        expected = outcome(whole)
        until = time.monotonic() + 60 * settings.minutes
        durations = left_alone(Path(name) / "again", settings)
        assert outcome(Path(name) / "again") == expected
        print({phase: round(seconds, 2) for phase, seconds in durations.items()})
        for number in count():
            if len(kills) >= settings.kills or time.monotonic() > until:
                break
            folder = Path(name) / f"run-{number}"
            for kill in chain(folder, settings, durations, chance):
                kills.append(kill)
                print(len(kills), *kill, flush=True)
            result = outcome(folder)
            differing = [name for name in expected if result[name] != expected[name]]
            assert not differing, f"run {number} differs in {differing}: {result}"
            print(f"run {number} is as the one left alone, after {len(kills)} kills")
        print(table(kills))
        print(f"{len(kills)} kills over {number} runs: all went on and ended alike")


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.kills", __doc__))
