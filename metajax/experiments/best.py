"""The checkpoint of the best validation."""

from dataclasses import dataclass
from pathlib import Path

from metajax.metrics import Metric
from metajax.reporting import read_rows
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import TrainState

SPLIT = "validation"


@dataclass(frozen=True)
class Best:
    """Keeps the state whose validation is better than all before it.

    It goes by the rows of the validations alone, so a run that was killed and resumed
    keeps the same state as one that was not.

    Attributes:
      directory: the run's.
      metric: what validations are judged by.
    """

    directory: Path
    metric: Metric

    def offer(self, state: TrainState) -> None:
        """Saves `state`, whose validation is the newest row, if it is the best."""
        rows = read_rows(self.directory / "metrics.jsonl")
        rows = [row for row in rows if row.get("split") == SPLIT]
        *before, score = [row.get(self.metric.name) for row in rows]
        if not isinstance(score, float):  # not finite
            return
        better = self.metric.better
        if all(better(score, other) for other in before if isinstance(other, float)):
            best_checkpoint(self.directory).save(state)


def best_checkpoint(directory: Path) -> Checkpoints:
    """Where a run keeps the checkpoint of its best validation."""
    return Checkpoints(directory / "best", keep=1)
