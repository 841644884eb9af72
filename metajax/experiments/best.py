"""The checkpoint of the best validation."""

import operator
from dataclasses import dataclass
from pathlib import Path

from metajax.experiments.tasks import MetricName
from metajax.reporting import read_rows
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import TrainState

SPLIT = "validation"
BETTER = {"accuracy": operator.gt, "mse": operator.lt}


@dataclass(frozen=True)
class Best:
    """Keeps the state whose validation is better than all before it.

    It goes by the rows of the validations alone, so the best of a run that was killed
    and resumed is the best of one that was not.

    Attributes:
      directory: the run's.
      metric: the name of the score.
    """

    directory: Path
    metric: MetricName

    def offer(self, state: TrainState) -> None:
        """Saves `state`, whose validation is the newest row, if it is the best."""
        rows = read_rows(self.directory / "metrics.jsonl")
        found = [row.get(self.metric) for row in rows if row.get("split") == SPLIT]
        *before, score = found
        if not isinstance(score, float):  # not finite
            return
        better = BETTER[self.metric]
        if all(better(score, other) for other in before if isinstance(other, float)):
            best_checkpoint(self.directory).save(state)


def best_checkpoint(directory: Path) -> Checkpoints:
    """Where a run keeps it."""
    return Checkpoints(directory / "best", keep=1)
