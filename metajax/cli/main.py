"""The `metajax` command: parses, runs, and prints a mendable error as one line."""

import gc
import io
import os
import select
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union

import tyro
from absl import logging

import metajax
from metajax.cli import commands, label, publish, runs
from metajax.cli.machine import a_device_for_each_core, end_now, several
from metajax.cli.parsing import UsageError, parse
from metajax.cli.starting import check_name
from metajax.cli.wrapping import unwrap
from metajax.errors import InputError, NonFiniteError, naming
from metajax.experiments.interrupt import Stopped

# What errors call arguments of metajax.data, whichever the command.
FLAGS = {
    "archives": "--archives",
    "data_dir": "--data-dir",
    "columns": "--columns",
    "columns_example": "--columns file=NAME,label=NAME",
}
INTERRUPTED = 130  # the status of a process that SIGINT ended, as shells have it
CLOSED = 141  # likewise of SIGPIPE
SUMMARIES = {
    "train": "Meta-train a preset, evaluate it and plot the results. Repeat the "
    "command to continue a run.",
    "sweep": "Train a preset with every combination of some values (--over "
    "inner.rate=0.1,0.4 outer.rate=1e-3,2e-3), or with those that Optuna proposes "
    "(--trials 20). Repeat the command to continue a sweep.",
    "pretrain": "Pre-train a preset's body to classify all training classes, in "
    "batches of 64 images, for --inner.backbone (mtl, baselines).",
    "plan": "Estimate the time and memory that a preset takes on this device, or on a "
    "chip that is not here.",
}
COMMANDS: dict[str, Any] = {
    "evaluate": commands.Evaluate,
    "label": label.Label,
    "study": commands.Study,
    "publish": publish.Publish,
    "data": commands.Data,
    "doctor": commands.Doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: the arguments; the process's own by default.

    Returns:
      The exit status: 0; 1 for an error that a person can mend, 2 for bad arguments,
      130 if interrupted, 143 if stopped by SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # Quiet orbax and TFDS, whose notes are for their own developers.
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.ERROR)
    if argv == ["--version"]:
        print(f"metajax {metajax.__version__}")
        return 0
    try:
        command = _parse(argv)
        with naming(FLAGS):
            command()
    except UsageError as error:
        return _failed(error, status=2)
    except (InputError, NonFiniteError) as error:
        return _failed(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            raise
        return _failed(error)
    except Stopped as stopped:
        print(f"{stopped}, and saved; the same command goes on", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from the last checkpoint"
        trains = argv[0] in ("train", "sweep", "pretrain")
        print(f"interrupted{goes_on if trains else ''}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _failed(error: Exception, status: int = 1) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parse(argv: list[str]) -> Any:
    """What the arguments ask for, as a function without arguments.

    Each command has a parser of its own, so that none waits for those of the others.
    """
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in runs.KINDS:
        run = runs.parse_run(name, rest)
        return run or _parse_as(name, runs.presets(name), rest, SUMMARIES[name])
    if name in COMMANDS:
        return _parse_as(name, COMMANDS[name], rest, COMMANDS[name].__doc__)
    if name and not name.startswith("-"):
        check_name("command", name, (*SUMMARIES, *COMMANDS))
    description = "Fast, exact second-order meta-learning."
    return parse(_everything(), argv, prog="metajax", description=description)


def _parse_as(name: str, kind: Any, rest: list[str], summary: str | None) -> Any:
    return parse(kind, rest, prog=f"metajax {name}", description=summary)


@dataclass(frozen=True)
class _Named:
    """A command, for the help that lists them."""


def _everything() -> Any:
    docs = {name: unwrap(kind.__doc__ or "") for name, kind in COMMANDS.items()}
    summaries = SUMMARIES | {name: text.split("\n")[0] for name, text in docs.items()}
    return Union[  # noqa: UP007, built from the table
        tuple(
            Annotated[_Named, tyro.conf.subcommand(name, description=text)]
            for name, text in summaries.items()
        )
    ]


def console() -> int:
    """The installed command: `main`, with a device of JAX for every core."""
    a_device_for_each_core()
    gc.set_threshold(100_000, 20, 100)  # tracing makes many objects, and few cycles
    warnings.showwarning = _warn
    if isinstance(sys.stdout, io.TextIOWrapper):  # names need not be its encoding's
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _piped()
    except Exception:
        if not several():
            raise
        traceback.print_exc()
        status = 1
    if status == INTERRUPTED or (status and several()):
        end_now(status)
    return status


def _piped() -> int:
    """`main`, which ends quietly once nobody reads what it writes, as `head` does."""
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush once more as it ends, and say that it cannot.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED


def _is_unread() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _warn(message: Warning | str, *_: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
