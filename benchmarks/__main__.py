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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.rivals import RIVALS
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
from benchmarks.workloads import workload


@dataclass(frozen=True, kw_only=True)
class Suite(Timing):
    """Times rivals on fixed work."""

    workloads: tyro.conf.Positional[tuple[str, ...]]
    """Such as w1-5steps-4tasks."""
    rivals: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = field(
        default=tuple(RIVALS)
    )
    """Which; all by default."""
    check: bool = True
    """Compare the float64 gradients first."""
    to: Path | None = None
    """A file of JSON for the record."""


def main(suite: Suite) -> None:
    """Runs the suite and prints a table a workload."""
    for name in suite.workloads:
        workload(name)
    record = {"machine": machine(), "device": suite.device, "results": {}}
    for name in suite.workloads:
        wrong = _distances(name, suite) if suite.check else {}
        rows = present(time_rivals(name, suite.rivals, suite))
        if suite.rivals[0] not in rows:
            raise SystemExit(f"{suite.rivals[0]}, to which others are compared, ended")
        for rival, row in rows.items():
            row["gradient_distance"] = wrong.get(rival)
        record["results"][name] = rows
        print(table(name, rows), flush=True)
        if suite.to is not None:
            suite.to.write_text(json.dumps(record, indent=1) + "\n")


def _distances(name: str, suite: Suite) -> dict[str, float]:
    """Of each float64 meta-gradient to the oracle's, relative, on a few tasks."""
    rivals = dict.fromkeys((ORACLE, *suite.rivals))
    vectors = dict(gradients(rivals, of_few_tasks(name), suite.device))
    truth = vectors[ORACLE]
    if isinstance(truth, Absent):
        raise SystemExit(f"{ORACLE} ended: nothing to compare with (or --no-check)")
    return {
        rival: distance(x, truth)
        for rival, x in vectors.items()
        if not isinstance(x, Absent)
    }


if __name__ == "__main__":
    main(tyro.cli(Suite, description=__doc__))
