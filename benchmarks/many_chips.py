"""What `fit` compiles for many chips that are not at hand.

    python -m benchmarks.many_chips w1-5steps-64tasks w1-5steps-4096tasks \
        --for v5e:4x4 h200:8

For each workload and slice of chips, the dispatch of `metajax.fit`, sampling included,
with tasks_per_chunk="auto": its collectives, its temporary memory on each device beside
that of two devices with as many tasks each, and how much of the memory that it may take
the chunk fills.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import optax
import tyro

from benchmarks.command import run_command
from benchmarks.settings import Chips, NewFile, Workloads, one_of
from benchmarks.target_worker import build, sampler
from benchmarks.targets import OTHER, PROGRAMS
from benchmarks.workloads import OUTER_RATE, workload
from metajax import targets
from metajax.study.chips import compile_dispatch
from metajax.targets.chips import usable_bytes
from metajax.training.cutting import MEMORY_SHARE

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """Which dispatches are compiled, and for which chips."""

    workloads: tyro.conf.Positional[Workloads]
    """Workloads, such as w1-5steps-64tasks."""
    chips: Annotated[Chips, tyro.conf.arg(name="for", metavar="CHIP ...")]
    """Chips to compile for, such as v5e:4x4 or h200:8."""
    program: Annotated[str, one_of("program", PROGRAMS + OTHER)] = "ours"
    """Program to compile, of those of benchmarks.targets."""
    to: NewFile | None = None
    """File to write the record to, as JSON."""


def compiled(name: str, devices: Sequence[Any], tasks: int, program: str) -> Any:
    """The facts of the compiled dispatch of a workload, of so many tasks."""
    work = workload(name)
    facts, cut = compile_dispatch(
        build(program, work),
        optax.adam(OUTER_RATE),
        sampler(work),
        devices,
        tasks=tasks,
    )
    each = -(-tasks // cut.devices)
    # All of a device's tasks, or half of its memory, whichever is less.
    allowed = MEMORY_SHARE * usable_bytes(devices[0])
    return {
        "devices": cut.devices,
        "tasks_each": each,
        "chunk": cut.chunk,
        "collectives": facts.program.collectives,
        "temporary_bytes": facts.temporary_bytes,
        "argument_bytes": facts.argument_bytes,
        "allowed_bytes": allowed,
        "all_at_once": cut.chunk >= each,
        "compile_s": facts.compile_seconds,
    }


def table(name: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A workload's table, in Markdown."""
    lines = [
        f"**{name}**",
        "",
        "| compiled for | devices | tasks a device | at a time | collectives | "
        "temporary MiB of a device | of each of two | of what it may |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for chip, row in rows.items():
        kinds = ", ".join(f"{n} {kind}" for kind, n in row["collectives"].items())
        filled = row["temporary_bytes"] / row["allowed_bytes"]
        share = "all tasks" if row["all_at_once"] else f"{100 * filled:.0f} %"
        lines.append(
            f"| {chip} | {row['devices']} | {row['tasks_each']} | {row['chunk']} | "
            f"{kinds or 'none'} | {row['temporary_bytes'] / MIB:.4g} | "
            f"{row['two_bytes'] / MIB:.4g} | {share} |"
        )
    return "\n".join([*lines, ""])


def main(settings: Settings) -> None:
    """Compiles, prints and records."""
    jax.config.update("jax_platforms", "cpu")  # nothing is run on what is here
    record: dict[str, Any] = {}
    chips = {chip: targets.devices(chip) for chip in settings.chips}
    for name in settings.workloads:
        rows, tasks = record.setdefault(name, {}), workload(name).tasks
        for chip, devices in chips.items():
            print(f"compiling {name} for {chip}", file=sys.stderr)
            row = rows[chip] = compiled(name, devices, tasks, settings.program)
            few = compiled(name, devices[:2], 2 * row["tasks_each"], settings.program)
            row["two_bytes"] = few["temporary_bytes"]
        print(table(name, rows), flush=True)
        if settings.to is not None:
            settings.to.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.many_chips", __doc__))
