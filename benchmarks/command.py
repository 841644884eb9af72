"""How a benchmark is run from the command line."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from metajax.errors import InputError

Settings = TypeVar("Settings")


def run_command(
    main: Callable[[Settings], object],
    settings: type[Settings],
    description: str | None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Runs a benchmark of its arguments; bad input is an error in one line.

    Args:
      main: the benchmark.
      settings: what the arguments are read as.
      description: what `--help` says first.
      arguments: the process's own by default.

    Returns:
      The exit status.
    """
    try:
        main(tyro.cli(settings, args=arguments, description=description))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
