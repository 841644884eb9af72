"""Mazes."""

from dataclasses import dataclass
from pathlib import Path

from metajax import rl
from metajax.experiments.bounds import Count
from metajax.experiments.families.trials import TrialData
from metajax.experiments.tasks import Task
from metajax.types import Learner, PyTree


@dataclass(frozen=True)
class MazeData(TrialData):
    """Grid mazes of which only the surroundings are seen (after Duan et al., 2016)."""

    origin = "maze", "generated on demand"
    size: Count = 7
    """Rows and columns of a maze with its border: an odd number of at least 5."""
    horizon: Count = 50
    """Most steps of an episode."""
    episodes: Count = 3
    """Episodes of a trial."""

    def environment(self) -> rl.Environment:
        """The maze."""
        return rl.maze(self.size, self.horizon)

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws the ways of the first and of the last episode."""
        from metajax.experiments import trial_figures  # loads matplotlib

        trial_figures.draw_ways(task, learner, meta, to=to)
