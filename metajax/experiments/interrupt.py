"""Ctrl-C and SIGTERM, which a run survives."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from metajax.errors import StoppedError

# A person's, and a scheduler's before it kills.
CAUGHT = (signal.SIGINT, signal.SIGTERM)
# What a shell told a background job to ignore, and what Python could not restore.
LEFT = (signal.SIG_IGN, None)
SAID, ONCE = b"\nstopping as soon as it is saved", b"; Ctrl-C to stop at once"


class Stopped(Exception):
    """A run was stopped by a signal, and is saved.

    Attributes:
      status: the exit status of a process that such a signal ended, as shells have it:
        130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process where it waits and Python would not be told."""
    before = _handlers([signal.SIGINT])
    _set(dict.fromkeys(before, signal.SIG_DFL))
    try:
        yield
    finally:
        _set(before)


def _handlers(numbers: Iterable[int]) -> dict[int, Any]:
    """The handlers of signals, of those that are this thread's to change."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {number: h for number, h in handlers.items() if h not in LEFT}


def _set(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Signals:
    """For `fit(stop=...)`: whether a signal asked to stop.

    The first one is kept until `fit` has saved; a second one acts as it would have, but
    for SIGTERM after SIGTERM, as schedulers may send it twice before they kill. In a
    thread other than the main one, where Python has no signals, nothing is caught. A
    signal that the process was started to ignore, as a script's background jobs are to
    ignore Ctrl-C, stays ignored.
    """

    def __init__(self):
        self._seen = 0
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        """Whether to stop."""
        return bool(self._seen)

    def __enter__(self) -> "Signals":
        self._before = _handlers(CAUGHT)
        _set(dict.fromkeys(self._before, self._handle))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        if isinstance(error, StoppedError):
            # Or another of several processes was told to, and said so.
            number = self._seen or signal.SIGTERM
            raise Stopped(str(error), 128 + number) from error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == self._seen == signal.SIGTERM:
            return
        self._seen = number
        # Not by `print`, which may be what the signal has interrupted.
        os.write(2, SAID + ONCE * (signal.SIGINT in self._before) + b"\n")
        again = {signal.SIGTERM} & {number}
        _set({n: h for n, h in self._before.items() if n not in again})

    def _restore(self) -> None:
        _set(self._before)
        self._before = {}
