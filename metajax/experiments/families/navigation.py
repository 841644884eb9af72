"""Navigation to a hidden goal."""

from dataclasses import dataclass
from pathlib import Path

from metajax import rl
from metajax.experiments.bounds import Count, Positive
from metajax.experiments.families.trials import TrialData
from metajax.experiments.tasks import Task
from metajax.types import Learner, PyTree


@dataclass(frozen=True)
class NavigationData(TrialData):
    """2D navigation of a point to a hidden goal (Finn et al., 2017)."""

    origin = "navigation", "generated on demand"
    horizon: Count = 100
    """Maximum number of steps per episode."""
    scale: Positive = 0.1
    """Distance moved by an action of 1: 0.1 in MAML's code, 1 in its PyTorch port."""
    reach: Positive = 0.1
    """Largest move along each axis."""
    episodes: Count = 2
    """Episodes per trial, for learners with a memory."""

    def environment(self) -> rl.Environment:
        """The plane."""
        return rl.navigation(self.horizon, scale=self.scale, reach=self.reach)

    def references(self) -> dict[str, float]:
        """The authors' oracle, at the full horizon."""
        return {"oracle": -2.3} if self == NavigationData() else {}

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws trajectories before and after adaptation."""
        from metajax.experiments import trial_figures  # loads matplotlib

        trial_figures.draw_paths(task, learner, meta, to=to)
