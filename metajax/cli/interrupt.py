"""A Ctrl-C that is not lost."""

import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np

from metajax.training import TrainState


class Interrupts:
    """An observer of `fit` that raises an interrupt again if nobody saw it.

    Python drops an exception that is raised inside a callback of the garbage collector
    or of a library in C, KeyboardInterrupt too, and prints its traceback: the run would
    go on. JAX has such a callback.
    """

    def __init__(self):
        self._asked = False
        self._before: Any = None
        self._hook: Any = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
            self._hook, sys.unraisablehook = sys.unraisablehook, _but_interrupts
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            sys.unraisablehook = self._hook

    def start(self, state: TrainState) -> None:
        """Nothing to do."""

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Raises KeyboardInterrupt if one was asked for."""
        if self._asked:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        signal.default_int_handler(number, frame)


def _but_interrupts(dropped: Any) -> None:
    """Prints what Python dropped, unless it comes again."""
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)
