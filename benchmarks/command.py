"""How a benchmark is run from the command line."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import exit_status
from benchmarks.settings import check_settings
from metajax.cli.parsing import UsageError, parse
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
        given = sys.argv[1:] if arguments is None else arguments
        try:
            program = f"python -m {module}"
            values = parse(settings, given, prog=program, description=description)
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except SystemExit:  # after --help
            return 0
        check_settings(values)
        main(values)

    return exit_status(run, (InputError, NonFiniteError))


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
