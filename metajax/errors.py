"""Errors that a person can mend; the command line prints them as one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple

_names: ContextVar[Mapping[str, str]] = ContextVar(
    "names", default=MappingProxyType({})
)


class InputError(ValueError):
    """Bad input: the message says what was expected, what came, and how to mend it."""


class Fault(NamedTuple):
    """A file, or a line of a table, that cannot be used.

    Attributes:
      place: the path of the file, or which line of which table it is.
      reason: what is wrong with it, as the rest of a sentence about it.
      mend: what to do.
    """

    place: str
    reason: str
    mend: str


class FilesError(InputError):
    """Files, or lines of tables, that cannot be used: all of them in one error.

    Attributes:
      faults: a `Fault` each.
    """

    def __init__(self, message: str, faults: Sequence[Fault]):
        super().__init__(message)
        self.faults = tuple(faults)


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Errors raised in the block call arguments by other names, such as a flag's.

    Where blocks are nested, the names of the outer one hold.

    Args:
      names: what to call an argument, by its name in Python.

    >>> with naming({"shots": "--data.shots"}):
    ...     print(argument("shots"), argument("ways"))
    --data.shots ways
    """
    token = _names.set({**names, **_names.get()})
    try:
        yield
    finally:
        _names.reset(token)


def argument(name: str, default: str | None = None) -> str:
    """What an error calls an argument.

    Args:
      name: its name in Python.
      default: what to call it outside of `naming`; `name` if None.

    Returns:
      The name that it has for whoever reads the error.
    """
    return _names.get().get(name, name if default is None else default)


class StoppedError(Exception):
    """Training or evaluation stopped, as requested.

    Attributes:
      state: the `TrainState` that training had reached, saved if there are checkpoints;
        None for an evaluation.
    """

    def __init__(self, message: str, state: Any):
        super().__init__(message)
        self.state = state


class NonFiniteError(ArithmeticError):
    """A loss or a gradient became infinite or NaN in training.

    Attributes:
      state: the last `TrainState` whose numbers were all finite.
    """

    def __init__(self, message: str, state: Any):
        super().__init__(message)
        self.state = state
