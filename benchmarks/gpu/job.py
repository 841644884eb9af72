"""What a section is given."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.gpu.sizes import SIZES, Size


class Job(NamedTuple):
    """What a section is to do.

    Attributes:
      device: "gpu" or "cpu".
      end: when its time is up, by `time.monotonic()`.
      emit: `emit(key, value)` hands over a result.
    """

    device: Any
    end: float
    emit: Callable[[str, Any], None]

    @property
    def size(self) -> Size:
        """How much of everything."""
        return SIZES[self.device]

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()
