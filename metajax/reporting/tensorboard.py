"""Training as TensorBoard events."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metajax.reporting.rows import means
from metajax.training.state import TrainState


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
        self.write({"step": int(state.step), "split": "train", **means(metrics)})

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of a row under its `split`."""
        assert self._writer is not None, "start comes first"
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])
