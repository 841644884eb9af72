"""The day a GPU is there: one unattended call, each result on disk as it comes.

    python -m benchmarks.gpu [--minutes 8] [--to DIR] [--only SECTION ...]
    python -m benchmarks.gpu --device cpu --minutes 3 --to DIR

In order of worth: the machine; gradients against float64; forms of each layer; rivals
in turns; exact over first order; precisions; tasks a second under the roofline; mixed
against reverse mode; time to the first step. Each section has a process of its own
and a share of the time that is left. One that fails, or that does not fit, is recorded
as such and the rest goes on. `--device cpu` rehearses all of it on less work.

Writes DIR/gpu.json, DIR/gpu.md and DIR/gpu.log, what the processes said
(cpu-rehearsal.* likewise). After Ctrl-C or SIGTERM they hold what was measured.
"""

import datetime
import json
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

from benchmarks.errors import Parser, exit_status
from benchmarks.gpu import child
from benchmarks.gpu.rendering import markdown
from benchmarks.gpu.schedule import Record, Result, Section, run_sections
from benchmarks.gpu.sections import ALL
from metajax._files.writing import write_whole
from metajax.checks import check_positive
from metajax.errors import InputError

ROOT = Path(__file__).parents[2]
RENDERING = 3.0  # seconds kept for the end
MARGIN = 2.0  # seconds a section's own clock is ahead of the one that kills it
NAMES = {"gpu": "gpu", "cpu": "cpu-rehearsal"}


def main(arguments: list[str] | None = None) -> int:
    """Runs the schedule; the exit status, 130 if it was interrupted."""
    chosen = _parser().parse_args(arguments)
    check_positive("--minutes", chosen.minutes)
    chosen.to.mkdir(parents=True, exist_ok=True)
    stem = chosen.to / NAMES[chosen.device]
    log = stem.with_suffix(".log")
    log.write_text("")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record: Record = {
        "title": f"Everything, on a {chosen.device.upper()}",
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]]),
        "began": datetime.datetime.now().isoformat(timespec="seconds"),
        "device": chosen.device,
    }

    def write(record: Record) -> None:
        write_whole(stem.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
        write_whole(stem.with_suffix(".md"), markdown(record))

    sections = [s for s in ALL if not chosen.only or s.name in chosen.only]
    status = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:

        def start(section: Section, seconds: float) -> Generator[Result]:
            print(f"{section.name}: {seconds:.0f} s at most", flush=True)
            name, device = section.name, chosen.device
            module = [sys.executable, "-m", "benchmarks.gpu.sections"]
            command = [*module, name, device, f"{seconds - MARGIN:.1f}"]
            return child.results(command, seconds, log, environment(device, cache))

        try:
            run_sections(
                sections, 60 * chosen.minutes - RENDERING, start, record, write
            )
        except KeyboardInterrupt:
            status = 130
    print(markdown(record))
    return status


def environment(device: str, cache: str) -> Mapping[str, str]:
    """Of every process: no memory is taken ahead, and nothing is compiled twice."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {
        "PYTHONPATH": path,
        "JAX_PLATFORMS": {"cpu": "cpu", "gpu": "cuda"}[device],
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Else a program would be compiled by what another has measured.
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    }


def _parser() -> Parser:
    parser = Parser("python -m benchmarks.gpu", __doc__)
    parser.add_argument(
        "--device", choices=NAMES, default="gpu", help="device to measure; gpu"
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="minutes for all sections; 8"
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        default=ROOT / "benchmarks" / "records",
        help="folder to write the record in; benchmarks/records",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SECTION",
        choices=[section.name for section in ALL],
        help="sections to run; all by default",
    )
    return parser


if __name__ == "__main__":
    sys.exit(exit_status(main, (InputError,)))
