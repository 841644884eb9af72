"""Families of environments to act in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metajax import rl
from metajax.errors import InputError
from metajax.experiments.bounds import Count, Positive
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
            classes=False,
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


@dataclass(frozen=True)
class BanditData(TrialData):
    """Bernoulli bandits (Duan et al., 2016)."""

    origin = "bandit", "generated on demand"
    arms: Count = 5
    """Arms of a bandit."""
    episodes: Count = 10
    """Pulls of a trial."""

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


@dataclass(frozen=True)
class MdpData(TrialData):
    """Random tabular Markov decision processes (Duan et al., 2016)."""

    origin = "mdp", "generated on demand"
    states: Count = 10
    """States of a process."""
    actions: Count = 5
    """Actions of a process."""
    horizon: Count = 10
    """Steps of an episode."""
    episodes: Count = 10
    """Episodes of a trial."""

    def environment(self) -> rl.Environment:
        """The process."""
        return rl.tabular_mdp(self.states, self.actions, self.horizon)

    def references(self) -> dict[str, float]:
        """What value iteration earns on known MDPs (`python -m benchmarks.rl mdp`)."""
        optimal = {MdpData(): 218.1, MdpData(episodes=25): 545.3}.get(self)
        return {} if optimal is None else {"value iteration": optimal}


@dataclass(frozen=True)
class NavigationData(TrialData):
    """Navigation of a point to a hidden goal (Finn et al., 2017)."""

    origin = "navigation", "generated on demand"
    horizon: Count = 100
    """Most steps of an episode."""
    scale: Positive = 0.1
    """How far an action of 1 moves: 0.1 in MAML's code, 1 in its PyTorch port."""
    reach: Positive = 0.1
    """The farthest move in each axis."""
    episodes: Count = 2
    """Episodes of a trial, for learners that remember."""

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
