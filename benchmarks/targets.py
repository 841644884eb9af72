"""What compilers make of a meta-step for chips that are not at hand, beside a textbook.

    pip install "metajax[targets]"
    python -m benchmarks.targets w1-5steps-4tasks --for v5e:2x2 h200 [--programs ours]

Each program is compiled in a process of its own, one after the other. A TPU's compiler
estimates cycles; of a GPU, bytes and launches are counted. They rank two programs for
one chip; no time follows from them.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.command import read_record, run_command
from benchmarks.settings import Chips, Count, Index, NewFile, Workloads, some_of
from metajax.errors import InputError
from metajax.targets.absent import check_compiler

PROGRAMS = ("ours", "textbook, highest", "textbook, default")
OTHER = ("ours, reverse", "ours, tensorfloat32", "ours, bfloat16")
PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda13-pjrt", "nvidia-cudnn-cu13", "flax")
MIB, GB, MILLION = 2**20, 1e9, 1e6
WIDTH = 60  # characters of an operation's name
Column = tuple[str, str, float]  # the name of a fact, its title, its unit
COLUMNS: tuple[Column, ...] = (
    ("cycles", "cycles, M, estimated", MILLION),
    ("bytes", "bytes, GB", GB),
    ("account_bytes", "by XLA's account, GB", GB),
    ("launches", "launches", 1),
    ("temporary_bytes", "temporary MiB", MIB),
    ("compile_s", "compile s", 1),
)


@dataclass(frozen=True)
class Settings:
    """Which programs are compiled, and for which chips."""

    workloads: tyro.conf.Positional[Workloads]
    """Workloads, such as w1-5steps-4tasks."""
    chips: Annotated[Chips, tyro.conf.arg(name="for", metavar="CHIP ...")]
    """Chips to compile for, such as v5e:2x2 or h200."""
    programs: Annotated[
        tuple[str, ...],
        some_of("program", PROGRAMS + OTHER),
        tyro.conf.arg(metavar="NAME ..."),
    ] = PROGRAMS
    """Programs to compile: "ours", "ours, reverse", "ours, tensorfloat32", "ours,
    bfloat16", "textbook, highest" or "textbook, default"; the others are compared with
    the first."""
    devices: Count = 1
    """Number of chips that share the tasks."""
    rounds: Count = 1
    """Compilations of each program, in turns; the table has the median seconds."""
    top: Index = 10
    """Number of the dearest instructions to list."""
    to: NewFile | None = None
    """File to add the record to, as JSON; its results of other work stay."""


def main(settings: Settings) -> None:
    """Compiles everything, and prints a table for each workload."""
    for chip in settings.chips:
        check_compiler(chip)
    _record(settings.to)
    for work in settings.workloads:
        rows = {chip: _compiled(work, chip, settings) for chip in settings.chips}
        _keep(settings.to, work, settings.devices, rows)
        print(table({_title(work, settings.devices): rows}), flush=True)
        for chip, row in rows.items():
            for program, facts in row.items():
                print(dearest(f"{program}, {chip}", facts), flush=True)


def _title(work: str, devices: int) -> str:
    return work if devices == 1 else f"{work}, {devices} devices"


def _compiled(work: str, chip: str, settings: Settings) -> dict[str, dict[str, Any]]:
    """The facts of each program, with the seconds of all its compilations."""
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(settings.rounds):
        for program in settings.programs:
            print(f"compiling {program}, {work}, for {chip}", file=sys.stderr)
            facts = _in_a_process(work, chip, program, settings)
            earlier = rows.setdefault(program, {**facts, "compile_s": []})
            earlier["compile_s"].append(facts["compile_s"])
    return rows


def _in_a_process(
    work: str, chip: str, program: str, settings: Settings
) -> dict[str, Any]:
    asked = (work, chip, program, str(settings.devices), str(settings.top))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.target_worker", *asked],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    if done.returncode:
        raise InputError(f"{program} was not compiled for {chip}")
    return json.loads(done.stdout.splitlines()[-1])


def _keep(to: Path | None, work: str, devices: int, rows: Mapping[str, Any]) -> None:
    if to is None:
        return
    record = _record(to)
    record["machine"] = {"python": platform.python_version(), **_versions()}
    results = record["results"].setdefault(_title(work, devices), {})
    for chip, programs in rows.items():
        results.setdefault(chip, {}).update(programs)
    to.write_text(json.dumps(record, indent=1) + "\n")


def _record(to: Path | None) -> dict[str, Any]:
    """The record so far."""
    return read_record(to) if to is not None and to.exists() else {"results": {}}


def _versions() -> dict[str, str]:
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def table(results: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> str:
    """A table in Markdown: a line for each work, chip and program.

    A column of which no program has a figure is left out.

    Args:
      results: of each work, of each chip, of each program, the facts of
        `benchmarks.target_worker`.
    """
    compiled = [
        (work, chip, programs)
        for work, chips in results.items()
        for chip, programs in chips.items()
    ]
    every = [facts for *_, programs in compiled for facts in programs.values()]
    columns = [c for c in COLUMNS if any(f.get(c[0]) is not None for f in every)]
    names = ["work", "compiled for", "", *(title for _, title, _ in columns)]
    lines = [f"| {' | '.join([*names, 'collectives'])} |"]
    lines += ["|---" * (len(names) + 1) + "|"]
    for work, chip, programs in compiled:
        first = next(iter(programs))
        lines += [
            f"| {work} | {chip} | {program} | {_cells(facts, columns)} |"
            for program, facts in programs.items()
        ]
        lines += [
            f"| | | {first} / {name} | {_ratios(programs[first], facts, columns)} | |"
            for name, facts in programs.items()
            if name != first
        ]
    return "\n".join([*lines, ""])


def _cells(facts: Mapping[str, Any], columns: Sequence[Column]) -> str:
    cells = [
        _digits(_number(facts, name) / unit) if facts.get(name) is not None else ""
        for name, _, unit in columns
    ]
    kinds = ", ".join(f"{n} {kind}" for kind, n in facts["collectives"].items())
    return " | ".join([*cells, kinds or "none"])


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _ratios(
    ours: Mapping[str, Any], other: Mapping[str, Any], columns: Sequence[Column]
) -> str:
    pairs = [(_number(ours, name), _number(other, name)) for name, *_ in columns]
    return " | ".join(f"**{a / b:.2f}**" if a and b else "" for a, b in pairs)


def _number(facts: Mapping[str, Any], name: str) -> float:
    """A figure, the median of several; 0 where there is none."""
    value = facts.get(name)
    if isinstance(value, list):
        return sorted(value)[len(value) // 2]
    return value or 0


def dearest(title: str, facts: Mapping[str, Any]) -> str:
    """The dearest instructions of a program, as Markdown.

    Args:
      title: the program and the chip.
      facts: those of `benchmarks.target_worker`.
    """
    cost, unit, name = (
        ("cycles", MILLION, "M cycles") if facts["cycles"] else ("bytes", MIB, "MiB")
    )
    total = max(1, facts[cost])
    lines = [
        f"{title}:",
        "",
        f"| {name} | % | | times | from |",
        "|---|---|---|---|---|",
    ]
    for each in facts["dearest"]:
        all_times = each["times"] * each[cost]
        lines.append(
            f"| {all_times / unit:.3g} | {100 * all_times / total:.0f} | "
            f"{each['opcode']} {each['name']} | {each['times']} | "
            f"`{each['operation'][-WIDTH:]}` |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.targets", __doc__))
