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
    """Grid mazes in which only nearby cells are seen (after Duan et al., 2016)."""

    origin = "maze", "generated on demand"
    size: Count = 7
    """Rows and columns of a maze, border included; odd, at least 5."""
    horizon: Count = 50
    """Maximum number of steps per episode."""
    episodes: Count = 3
    """Episodes per trial."""

    def environment(self) -> rl.Environment:
        """The maze."""
        return rl.maze(self.size, self.horizon)

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws the ways of the first and of the last episode."""
        from metajax.experiments import trial_figures  # loads matplotlib

        trial_figures.draw_ways(task, learner, meta, to=to)
