"""Families of environments to act in."""

from pathlib import Path
from typing import Any, ClassVar

from metajax import rl
from metajax.errors import InputError
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import Family
from metajax.experiments.networks import Network
from metajax.experiments.tasks import Places, Split, Task, Trials
from metajax.losses import mse
from metajax.metrics import average_return
from metajax.models.precision import Precision
from metajax.types import Learner, PyTree, Sampler


class TrialData(Family):
    """Trials of an environment.

    Attributes:
      episodes: of a trial, for learners that remember.
      queries: none; a trial is judged by what happens in it.
      shots: likewise.
    """

    episodes: Count
    queries: ClassVar[Any] = None
    shots: ClassVar[int] = 1

    def environment(self) -> rl.Environment:
        """The environment."""
        raise NotImplementedError

    def references(self) -> dict[str, float]:
        """Returns to hold a run's against, by name."""
        return {}

    def build(self, places: Places) -> Task:
        """Trials, judged by their returns."""
        self.check_places(places)
        environment = self.environment()
        sampler = rl.trials(environment)

        def episodes(split: Split, queries: int) -> Sampler:
            return sampler  # the family is endless: seeds tell the splits apart

        size = environment.observation_size
        return Task(
            episodes,
            1,
            1,
            1,
            {"mean": mse},  # the learner has a loss of its own
            average_return,
            (size,),
            kind="trials",
            network=policy_for,
            judge=rl.judge,
            trials=Trials(environment, self.episodes),
            references=self.references(),
        )

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws the returns of some trials, step by step."""
        from metajax.experiments import trial_figures  # loads matplotlib

        trial_figures.draw_returns(task, learner, meta, to=to)


def policy_for(
    task: Task, network: Network, context: int, precision: Precision
) -> rl.Policy:
    """The policy of a network's configuration.

    Raises:
      InputError: if the network makes none, or not in this precision.
    """
    if precision != "float32":
        raise InputError(f"--precision must be float32 for policies, got {precision}")
    assert task.trials is not None
    return network.policy(task.trials.environment)
