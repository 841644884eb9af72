"""Sine waves."""

from dataclasses import dataclass
from pathlib import Path

from metajax import data
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import Family
from metajax.experiments.tasks import Places, Split, Task
from metajax.losses import mse as loss
from metajax.metrics import mse
from metajax.types import Learner, PyTree, Sampler


@dataclass(frozen=True)
class SinusoidData(Family):
    """Sine waves (Finn et al., 2017)."""

    origin = "sinusoid", "generated on demand"
    shots: Count = 10
    """Support points per task."""
    train_shots: Count | None = None
    """Support points per task in training; by default as in --data.shots. Reptile uses
    more."""
    queries: Count = 10
    """Query points per task in training."""

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws waves, and the predictions before and after adaptation."""
        from metajax.experiments import figures  # loads matplotlib

        figures.draw_waves(task, learner, meta, to=to)

    def build(self, places: Places) -> Task:
        """Regression of sine waves, judged by the mean squared error."""
        self.check_places(places)

        def episodes(split: Split, queries: int) -> Sampler:
            return data.sinusoid(self.number("shots", split), queries)

        support = max(self.number("shots", s) for s in ("train", "test"))
        return Task(episodes, 1, 1, support, {"mean": loss}, mse, (1,), kind="values")
