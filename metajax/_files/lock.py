"""A lock, so that a run directory has at most one writer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from metajax.errors import InputError

NAME = ".lock"


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Locks a directory; the system unlocks it however the process ends.

    Raises:
      InputError: if another process has locked it.
    """
    lock = FileLock(directory / NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(
            f"another process is training in {directory}; wait for it, or choose "
            "another --run-dir"
        ) from error
    try:
        yield
    finally:
        lock.release()
