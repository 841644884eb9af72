"""Observers of training: JSON lines, TensorBoard events, and a progress display."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metajax._files.writing import write_whole
from metajax.checks import check_count
from metajax.errors import InputError
from metajax.metrics import Z95, Metric, as_metric
from metajax.training.state import TrainState
from metajax.types import Loss


class JsonLines:
    """Appends one row of JSON per dispatch: the mean of each metric and its interval.

    When training resumes from a checkpoint, rows past its step are removed, so that the
    file reads as if training had never stopped.

    Args:
      path: the file.

    >>> import tempfile, optax, metajax as mj
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    >>> training = dict(steps=20, tasks=4, steps_per_call=10)
    >>> training["observers"] = [JsonLines(path)]
    >>> _ = mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), **training)
    >>> [row["step"] for row in read_rows(path)]
    [10, 20]
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)

    def start(self, state: TrainState) -> None:
        """Removes the rows past the state's step."""
        rows = read_rows(self._path)
        kept = [json.dumps(row) for row in rows if row["step"] <= int(state.step)]
        write_whole(self._path, "".join(row + "\n" for row in kept))

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Appends the row of a dispatch."""
        self.write({"step": int(state.step), "split": "train", **_means(metrics)})

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends any row that has a `step`."""
        with self._path.open("a") as file:
            file.write(json.dumps(finite(row)) + "\n")


class TensorBoard:
    """Writes the mean of each metric as TensorBoard events, without TensorFlow.

    It is a context manager: the last events are on disk when it closes.

    Args:
      directory: the folder for the events.
    """

    def __init__(self, directory: str | Path):
        self._directory, self._writer = str(directory), None

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def start(self, state: TrainState) -> None:
        """Opens the event file, and marks events past the state's step as deleted."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(self._directory, purge_step=int(state.step) + 1)

    def record(self, state: TrainState, metrics: Mapping[str, np.ndarray]) -> None:
        """Writes the events of a dispatch."""
        self.write({"step": int(state.step), "split": "train", **_means(metrics)})

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of a row under its `split`."""
        assert self._writer is not None, "start comes first"
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])


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


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a JSON-lines file, without a last row that was cut short.

    Args:
      path: the file; it has no rows if it does not exist.

    Returns:
      The rows in order, each with a `step`.

    Raises:
      InputError: if a line is not an object with a step.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [_row(path, i, line) for i, line in enumerate(lines[:-1], start=1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        check_count("its step", row["step"], least=0)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"line {number} of {path} is not a row of metrics ({error}); delete it, or "
            "move the file away"
        ) from error
    return row


def finite(value: Any) -> Any:
    """Replaces NaN and infinities by None, since JSON has neither."""
    if isinstance(value, Mapping):
        return {name: finite(x) for name, x in value.items()}
    if isinstance(value, list):
        return [finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each metric over a dispatch, and half its 95 % interval."""
    means = {}
    for name, values in metrics.items():
        means[name] = float(np.mean(values))
        if len(values) > 1:
            error = np.std(values, ddof=1) / math.sqrt(len(values))
            means[f"{name}_interval"] = float(Z95 * error)
    return means
