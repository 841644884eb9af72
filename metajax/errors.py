"""Errors that a person can mend; the command line prints them as one line."""

from typing import Any


class InputError(ValueError):
    """Bad input: the message says what was expected, what came, and how to mend it."""


class StoppedError(Exception):
    """Training, or an evaluation, was asked to stop, and did.

    Attributes:
      state: the `TrainState` that training had reached, saved if there are checkpoints;
        None of an evaluation.
    """

    def __init__(self, message: str, state: Any):
        super().__init__(message)
        self.state = state


class NonFiniteError(ArithmeticError):
    """Training met a loss or a gradient that is infinite or NaN.

    Attributes:
      state: the last `TrainState` whose numbers were all finite.
    """

    def __init__(self, message: str, state: Any):
        super().__init__(message)
        self.state = state
