"""The checkpoint of the best validation."""

from dataclasses import dataclass
from pathlib import Path

from metajax.metrics import Metric
from metajax.reporting import read_rows
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import TrainState

SPLIT = "validation"
MOST = 100  # more than there are validations between two checkpoints of a run


@dataclass(frozen=True)
class Best:
    """Keeps the state whose validation is better than all before it.

    It goes by the rows of the validations alone, so a run that was killed and resumed
    keeps the same state as one that was not. A run resumes from its newest checkpoint,
    and so an earlier best is kept until a checkpoint follows the new one.

    Attributes:
      directory: the run's.
      metric: what validations are judged by.
      checkpoints: the run's own.
    """

    directory: Path
    metric: Metric
    checkpoints: Checkpoints

    def start(self, state: TrainState) -> None:
        """Removes what a run that was killed kept after `state`, where this resumes."""
        best = best_checkpoint(self.directory)
        for step in best.steps():
            if step > int(state.step):
                best.remove(step)

    def offer(self, state: TrainState) -> None:
        """Saves `state`, whose validation is the newest row, if it is the best."""
        rows = read_rows(self.directory / "metrics.jsonl")
        rows = [row for row in rows if row.get("split") == SPLIT]
        *before, score = [row.get(self.metric.name) for row in rows]
        if not isinstance(score, float):  # not finite
            return
        better, best = self.metric.better, best_checkpoint(self.directory)
        earlier = [other for other in before if isinstance(other, float)]
        if all(better(score, other) for other in earlier) or not best.steps():
            best.save(state)
        self.prune()

    def prune(self) -> None:
        """Removes bests that are needed no more: those before one that is safe."""
        newest = max(self.checkpoints.steps(), default=0)
        best = best_checkpoint(self.directory)
        safe = max((step for step in best.steps() if step <= newest), default=0)
        for step in best.steps():
            if step < safe:
                best.remove(step)


def best_checkpoint(directory: Path) -> Checkpoints:
    """Where a run keeps the checkpoint of its best validation, the newest there."""
    return Checkpoints(directory / "best", keep=MOST)
