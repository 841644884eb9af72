"""Errors in one line: of a command on standard error, and of a record.

Workers import this before they know how JAX shall start, so nothing here imports it.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

INTERRUPTED, CLOSED = 130, 141  # as shells have it, of SIGINT and of SIGPIPE


class UsageError(ValueError):
    """Bad input of a benchmark: what was expected, and what came."""


def one_line(error: BaseException) -> str:
    """An error as one line of at most 300 characters; with its place if it is bare."""
    name, lines = type(error).__name__, str(error).strip().splitlines()
    if lines:
        return f"{name}: {lines[0]}"[:300]
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    )
    return name + where


def exit_status(
    run: Callable[[], int | None], mendable: tuple[type[Exception], ...] = ()
) -> int:
    """Runs a command, and prints an error that a person can mend as one line.

    Args:
      run: the command; None is status 0.
      mendable: such errors, beside `UsageError` and `OSError`.

    Returns:
      The exit status: the command's own; 1 for such an error, 130 if interrupted, 141
      if nobody reads its output any longer, as `| head` does not.
    """
    try:
        status = run() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # What is still buffered would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except (UsageError, OSError, *mendable) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; for commands that must run without tyro."""

    def __init__(self, prog: str, description: str | None):
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, formatter_class=form)

    def error(self, message: str) -> NoReturn:
        """Prints the error alone, without the usage."""
        self.exit(2, f"error: {message}\n")
