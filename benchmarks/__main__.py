"""The speed suite: rivals on fixed work, in one run.

    python -m benchmarks w1-5steps-4tasks w3-5steps-25tasks [--rivals NAME ...]

For each workload: every rival's meta-gradient in float64, of two tasks, is compared
with the textbook's reverse-over-reverse; then each compiles in a process of its own,
and the processes take meta-steps in turn, A B C A B C. Medians and quartiles over the
turns, compile time apart, peak memory of each process, or of the GPU with `--device
gpu`. A rival whose gradient is wrong is timed, and marked; one that is not installed,
or runs out of memory, is left out.
"""

import json
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from benchmarks.command import run_command
from benchmarks.rivals import RIVALS, installed
from benchmarks.settings import NewFile, Rivals, Workloads
from benchmarks.suite import (
    ORACLE,
    Absent,
    Timing,
    distance,
    gradients,
    machine,
    of_few_tasks,
    present,
    table,
    time_rivals,
)
from metajax.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings(Timing):
    """Which rivals are timed on which work."""

    workloads: tyro.conf.Positional[Workloads]
    """Workloads, such as w1-5steps-4tasks."""
    rivals: Annotated[Rivals, tyro.conf.arg(metavar="NAME ...")] = installed()
    """Rivals to time, all that are installed by default; the others are compared with
    the first."""
    check: bool = True
    """Compare the rivals' float64 gradients with the textbook's first."""
    to: NewFile | None = None
    """File to write the record to, as JSON."""


def main(suite: Settings) -> None:
    """Runs the suite and prints a table a workload."""
    if suite.rivals == installed() and (absent := RIVALS.keys() - {*suite.rivals}):
        print(f"not installed: {'; '.join(sorted(absent))}", file=sys.stderr)
    record = {"machine": machine(), "device": suite.device, "results": {}}
    for name in suite.workloads:
        wrong = _distances(name, suite) if suite.check else {}
        rows = present(time_rivals(name, suite.rivals, suite))
        if suite.rivals[0] not in rows:
            raise InputError(
                f"the process of {suite.rivals[0]}, with which the others are "
                "compared, ended"
            )
        for rival, row in rows.items():
            row["gradient_distance"] = wrong.get(rival)
        record["results"][name] = rows
        print(table(name, rows), flush=True)
        if suite.to is not None:
            suite.to.write_text(json.dumps(record, indent=1) + "\n")


def _distances(name: str, suite: Settings) -> dict[str, float]:
    """The relative distance of each float64 meta-gradient to the textbook's."""
    rivals = dict.fromkeys((ORACLE, *suite.rivals))
    vectors = dict(gradients(rivals, of_few_tasks(name), suite.device))
    truth = vectors[ORACLE]
    if isinstance(truth, Absent):
        raise InputError(
            f"the process of {ORACLE}, the reference for gradients, ended; --no-check "
            "leaves the comparison out"
        )
    return {
        rival: distance(x, truth)
        for rival, x in vectors.items()
        if not isinstance(x, Absent)
    }


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks", __doc__))
