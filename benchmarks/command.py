"""How a benchmark is run from the command line."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import tyro

from benchmarks.errors import exit_status
from benchmarks.settings import check_settings
from metajax.errors import InputError, NonFiniteError


def run_command(
    main: Callable[[Any], object],
    settings: Any,
    module: str,
    description: str | None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Runs a benchmark; bad input is an error in one line.

    Args:
      main: the benchmark.
      settings: the dataclass that the arguments are read as, or a union of them; see
        `benchmarks.settings`.
      module: what is run with `python -m`.
      description: the start of `--help`.
      arguments: the process's own by default.

    Returns:
      The exit status: 2 for arguments that cannot be read; see `exit_status`.
    """

    def run() -> int | None:
        try:
            values = _parsed(settings, module, description, arguments)
        except SystemExit as end:  # after --help too
            return int(end.code or 0)
        check_settings(values)
        main(values)

    return exit_status(run, (InputError, NonFiniteError))


def _parsed(settings: Any, module: str, description: str | None, arguments: Any) -> Any:
    given = sys.argv[1:] if arguments is None else arguments
    # tyro draws an error as a box: wide enough, each of its sentences is one row.
    wide = {} if {"-h", "--help"} & {*given} else {"COLUMNS": "10000"}
    box = io.StringIO()
    try:
        with mock.patch.dict(os.environ, wide), contextlib.redirect_stderr(box):
            return tyro.cli(
                settings,
                prog=f"python -m {module}",
                args=given,
                description=description,
            )
    except SystemExit as end:
        if end.code:
            print(f"error: {_sentence(box.getvalue())}", file=sys.stderr)
        raise


def _sentence(box: str) -> str:
    """What a box says above its first rule."""
    rows = [line.strip("│ ") for line in box.splitlines() if line.startswith("│")]
    rule = next((i for i, row in enumerate(rows) if row.startswith("─")), len(rows))
    return " ".join(" ".join(rows[:rule] or [box]).split())


def read_record(path: Path) -> dict[str, Any]:
    """The record that a benchmark wrote with `--to`.

    Raises:
      InputError: if the file is none.
    """
    try:
        record = json.loads(path.read_text())
        record["results"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the record of a benchmark") from error
    return record
