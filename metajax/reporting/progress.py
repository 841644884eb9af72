"""Training as a bar on a terminal, or lines elsewhere."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from metajax.metrics import Metric, as_metric
from metajax.training.state import TrainState
from metajax.types import Loss


class Progress:
    """A progress bar on a terminal, and a line every `seconds` elsewhere.

    Both show the step, the loss and other metrics of the learner, tasks per second and
    the time left. The rate leaves out the first dispatch, which compiles.

    Args:
      steps: the total number of meta-steps.
      tasks: the number of tasks per meta-batch.
      metrics: the learner's metrics. A `Metric` formats its own values; other values
        have four decimals.
      seconds: the least time between two lines, if there is no terminal.
      console: a `rich.console.Console`; standard error by default.
    """

    def __init__(
        self,
        steps: int,
        tasks: int,
        *,
        metrics: Mapping[str, Metric | Loss] | None = None,
        seconds: float = 10.0,
        console: Any = None,
    ):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._steps, self._tasks, self._seconds = steps, tasks, seconds
        self._metrics = {name: as_metric(x) for name, x in (metrics or {}).items()}
        self._console = console or Console(stderr=True)
        self._bar = Bar(
            BarColumn(), TextColumn("{task.description}"), console=self._console
        )

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, state: TrainState) -> None:
        """Starts the clock."""
        self._first, self._began = int(state.step), time.monotonic()
        self._last_line = -math.inf
        text = f"step {self._first}/{self._steps} compiling"
        if not self._console.is_terminal and self._first < self._steps:
            self._console.print(text, highlight=False)
        self._task = self._bar.add_task(text, total=self._steps, completed=self._first)

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Shows the numbers of a dispatch."""
        step, now = int(state.step), time.monotonic()
        text = self._line(step, metrics, now - self._began)
        self._bar.update(self._task, completed=step, description=text)
        if self._last_line == -math.inf:  # the first dispatch has compiled
            self._first, self._began = step, now
        if now - self._last_line >= self._seconds or step == self._steps:
            self._last_line = now
            if not self._console.is_terminal:
                self._console.print(text, highlight=False, soft_wrap=True)

    def _line(
        self, step: int, metrics: Mapping[str, np.ndarray], elapsed: float
    ) -> str:
        rate = (step - self._first) / max(elapsed, 1e-9)
        left = math.ceil((self._steps - step) / rate)
        names = sorted(metrics, key=lambda name: (name != "loss", name))
        parts = [
            f"step {step}/{self._steps}",
            *(self._shown(name, metrics[name]) for name in names),
            f"{rate * self._tasks:.0f} tasks/s",
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left",
        ]
        return "  ".join(parts)

    def _shown(self, name: str, values: np.ndarray) -> str:
        value, metric = float(np.mean(values)), self._metrics.get(name)
        if metric is None:
            return f"{name} {value:.4f}"
        return f"{name} {metric.format(value)} {metric.unit}".rstrip()
