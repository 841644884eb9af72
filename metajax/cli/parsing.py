"""Parses arguments with tyro: its errors as one line, its help wrapped once."""

import contextlib
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import tyro
from tyro.constructors import MISSING_NONPROP, ConstructorRegistry

from metajax.cli.wrapping import UnwrappedHelp
from metajax.errors import InputError

WIDE = "10000"  # columns: each sentence of an error is one row
HINTS = "Perhaps you meant", "Arguments similar to"
HELP = 8  # columns before the help of an option that an error names


class UsageError(InputError):
    """Arguments that cannot be read."""


def parse(
    kind: Any,
    arguments: Sequence[str],
    *,
    prog: str,
    description: str | None,
    default: Any = MISSING_NONPROP,
) -> Any:
    """What a command line asks for.

    Args:
      kind: the dataclass that the arguments are read as, or a union of them.
      arguments: those after the name of the program.
      prog: that name, in the help.
      description: the start of the help; a docstring.
      default: a value of `kind`, which the arguments change.

    Returns:
      A value of `kind`.

    Raises:
      SystemExit: after the help, if it is asked for.
      UsageError: if they cannot be read; with the nearest option of an unknown one.
    """
    registry = ConstructorRegistry()
    registry.struct_rule(UnwrappedHelp())
    with _one_line_errors(arguments):
        return tyro.cli(
            kind,
            prog=prog,
            description=description and inspect.cleandoc(description),
            args=arguments,
            default=default,
            registry=registry,
        )


@contextlib.contextmanager
def _one_line_errors(arguments: Sequence[str]) -> Iterator[None]:
    """Raises what tyro draws as a box, and ends the process with, as a `UsageError`.

    Help is without colours where NO_COLOR asks for that, which tyro does not read.
    """
    helped = asks_help(arguments)
    plain = {"TERM": "dumb"} if os.environ.get("NO_COLOR") or not helped else {}
    wide = {} if helped else {"COLUMNS": WIDE}
    box = io.StringIO()
    try:
        with _environment(plain | wide), contextlib.redirect_stderr(box):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        raise UsageError(error_of(box.getvalue())) from None
    sys.stderr.write(box.getvalue())


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help alone."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def error_of(box: str) -> str:
    """What a box of tyro says above its first rule, and the nearest options below it.

    >>> print(error_of('''
    ... ╭─ Unrecognized options ─────────────╮
    ... │ Unrecognized options: --step, 3    │
    ... │ ────────────────────────────────── │
    ... │ Perhaps you meant:                 │
    ... │     --steps INT                    │
    ... ╰────────────────────────────────────╯'''))
    Unrecognized options: --step, 3; did you mean --steps?
    """
    # Read as printed, as tyro's hooks for errors are private. The first line is the
    # title, and the sides take two columns.
    rows = [x[2:].rstrip("│ ") for x in box.splitlines() if x.strip()][1:]
    parts = [list(part) for rule, part in groupby(rows, _is_rule) if not rule]
    named = [row for row in (parts or [[box]])[0] if not row.startswith(" " * HELP)]
    text = " ".join(" ".join(named).split()).rstrip(".")
    nearest = sorted(
        re.split("[ ,]", after.strip())[0]
        for row, after in zip(rows, rows[1:])
        if row.startswith(HINTS)
    )
    return text + (f"; did you mean {', '.join(nearest)}?" if nearest else "")


def _is_rule(row: str) -> bool:
    """Whether it parts others; in ASCII where the output's encoding is not UTF-8."""
    return {*row} <= {*"─-╯"}


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
