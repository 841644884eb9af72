"""Bernoulli bandits."""

from dataclasses import dataclass
from pathlib import Path

from metajax import rl
from metajax.experiments.bounds import Count
from metajax.experiments.families.trials import TrialData
from metajax.experiments.tasks import Task
from metajax.types import Learner, PyTree


@dataclass(frozen=True)
class BanditData(TrialData):
    """Bernoulli bandits (Duan et al., 2016)."""

    origin = "bandit", "generated on demand"
    arms: Count = 5
    """Number of arms."""
    episodes: Count = 10
    """Pulls per trial."""

    def environment(self) -> rl.Environment:
        """The bandit."""
        return rl.bernoulli_bandit(self.arms)

    def references(self) -> dict[str, float]:
        """The Bayes optimum, where it is known (`python -m benchmarks.rl bandit`)."""
        optimum = {(5, 10): 6.660, (10, 10): 6.714}.get((self.arms, self.episodes))
        return {} if optimum is None else {"Bayes optimum": optimum}

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws how often the best arm is pulled, by pull."""
        from metajax.experiments import trial_figures  # loads matplotlib

        trial_figures.draw_pulls(task, learner, meta, to=to)
