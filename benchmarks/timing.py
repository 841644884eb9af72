"""How long a call takes."""

import time
from collections.abc import Callable
from typing import Any


def timed(call: Callable[[], Any]) -> float:
    """How long a call takes; it must wait for what it computes.

    Args:
      call: without arguments; what it returns is dropped.

    Returns:
      Seconds.
    """
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
