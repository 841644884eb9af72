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

from benchmarks.command import run_command
from benchmarks.workloads import workload
from metajax.targets.absent import chip_named

PROGRAMS = ("ours", "textbook, highest", "textbook, default")
OTHER = ("ours, reverse", "ours, tensorfloat32", "ours, bfloat16")
PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda13-pjrt", "nvidia-cudnn-cu13", "flax")
MIB, GB, MILLION = 2**20, 1e9, 1e6
WIDTH = 60  # characters of an operation's name


@dataclass(frozen=True)
class Settings:
    """Compiles programs of fixed work for chips that are not at hand."""

    workloads: tyro.conf.Positional[tuple[str, ...]]
    """Such as w1-5steps-4tasks."""
    chips: Annotated[tuple[str, ...], tyro.conf.arg(name="for", metavar="CHIP ...")]
    """Such as v5e:2x2, h200."""
    programs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = PROGRAMS
    """Of "ours", "ours, reverse", "ours, tensorfloat32", "ours, bfloat16", "textbook,
    highest" and "textbook, default"; the first is compared with each other."""
    devices: int = 1
    """How many of the chips share the tasks."""
    rounds: int = 1
    """How often each is compiled, in turns, for the median of the seconds."""
    top: int = 10
    """How many of the dearest instructions are listed."""
    to: Path | None = None
    """A file of JSON for the record; what it has of other work stays."""


def main(settings: Settings) -> None:
    """Compiles everything, and prints a table for each workload."""
    for name in settings.workloads:
        workload(name)
    for name in settings.chips:
        chip_named(name)
    for name in settings.programs:
        if name not in PROGRAMS + OTHER:
            raise SystemExit(f"no program {name!r}; there are {PROGRAMS + OTHER}")
    for work in settings.workloads:
        rows = {chip: _compiled(work, chip, settings) for chip in settings.chips}
        _keep(settings.to, work, settings.devices, rows)
        print(table(_title(work, settings.devices), rows), flush=True)
        for chip, row in rows.items():
            for program, facts in row.items():
                print(dearest(f"{program}, {chip}", facts), flush=True)


def _title(work: str, devices: int) -> str:
    return work if devices == 1 else f"{work}, {devices} devices"


def _compiled(work: str, chip: str, settings: Settings) -> dict[str, dict[str, Any]]:
    """Of each program, what is known of it."""
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
        raise SystemExit(f"{program} was not compiled for {chip}")
    return json.loads(done.stdout.splitlines()[-1])


def _keep(to: Path | None, work: str, devices: int, rows: Mapping[str, Any]) -> None:
    if to is None:
        return
    record = json.loads(to.read_text()) if to.exists() else {"results": {}}
    record["machine"] = {"python": platform.python_version(), **_versions()}
    results = record["results"].setdefault(_title(work, devices), {})
    for chip, programs in rows.items():
        results.setdefault(chip, {}).update(programs)
    to.write_text(json.dumps(record, indent=1) + "\n")


def _versions() -> dict[str, str]:
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}


def table(title: str, rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A workload's table, in Markdown: a line for each chip and program.

    Args:
      title: its first line.
      rows: of each chip, of each program, the facts of `benchmarks.target_worker`.
    """
    lines = [
        f"**{title}**",
        "",
        "| compiled for | | cycles, M, estimated | bytes, GB | by XLA's account, GB | "
        "launches | temporary MiB | compile s | collectives |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for chip, programs in rows.items():
        first = next(iter(programs))
        lines += [
            f"| {chip} | {program} | {_cells(facts)} |"
            for program, facts in programs.items()
        ]
        lines += [
            f"| | {first} / {program} | {_ratios(programs[first], facts)} | |"
            for program, facts in programs.items()
            if program != first
        ]
    return "\n".join([*lines, ""])


COLUMNS = (
    ("cycles", MILLION, "{:.4g}"),
    ("bytes", GB, "{:.3g}"),
    ("account_bytes", GB, "{:.3g}"),
    ("launches", 1, "{:.0f}"),
    ("temporary_bytes", MIB, "{:.3g}"),
    ("compile_s", 1, "{:.3g}"),
)


def _cells(facts: Mapping[str, Any]) -> str:
    cells = [
        form.format(_number(facts, name) / unit) if facts[name] is not None else ""
        for name, unit, form in COLUMNS
    ]
    kinds = ", ".join(f"{n} {kind}" for kind, n in facts["collectives"].items())
    return " | ".join([*cells, kinds or "none"])


def _ratios(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    pairs = [(_number(ours, name), _number(other, name)) for name, *_ in COLUMNS]
    return " | ".join(f"**{a / b:.2f}**" if a and b else "" for a, b in pairs)


def _number(facts: Mapping[str, Any], name: str) -> float:
    """A figure, the median of several; 0 where there is none."""
    value = facts[name]
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


def console(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status."""
    return run_command(main, Settings, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(console())
