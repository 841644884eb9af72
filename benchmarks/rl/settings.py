"""Settings of the commands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from benchmarks.settings import Amount, Check, Count, NewFile, Seed
from metajax.checks import check_count

MOST_PULLS = 500  # of which a table of indices takes 500 MB


def _is_pulls(flag: str, value: int) -> None:
    check_count(flag, value, least=1, most=MOST_PULLS)


def _is_several(flag: str, value: int) -> None:
    check_count(flag, value, least=2)


Pulls = Annotated[int, Check(_is_pulls)]
Several = Annotated[int, Check(_is_several)]  # for a choice, or an interval


@dataclass(frozen=True)
class Strategies:
    """What tables of strategies have in common."""

    seed: Seed = 0
    """Random seed of the tasks and of their plays."""
    runs: tuple[Path, ...] = ()
    """Directories of runs of `metajax train` on such tasks, to show beside."""
    to: NewFile | None = None
    """File to add the record to, as JSON; its other tables stay."""


@dataclass(frozen=True)
class MetaStep:
    """What meta-steps of MAML have in common."""

    inner_rate: Amount = 0.1
    """Learning rate of the inner step."""
    seed: Seed = 0
    """Random seed of the weights, the tasks and the plays."""
    to: NewFile | None = None
    """File to add the record to, as JSON; its other tables stay."""


@dataclass(frozen=True)
class Bandit(Strategies):
    """Bernoulli bandits."""

    arms: Several = 5
    """Arms of a task."""
    pulls: Pulls = 10
    """Pulls of a task."""
    tasks: Several = 20_000
    """Tasks that each strategy plays, the same for all."""


@dataclass(frozen=True)
class Mdp(Strategies):
    """Random tabular MDPs."""

    episodes: Count = 10
    """Episodes of a task, in one and the same MDP."""
    states: Count = 10
    """States of an MDP."""
    actions: Several = 5
    """Actions of an MDP."""
    horizon: Count = 10
    """Time steps of an episode."""
    tasks: Several = 1_000
    """Tasks that each strategy plays, the same for all."""


@dataclass(frozen=True)
class Navigation(MetaStep):
    """A meta-step of MAML on 2D navigation, beside PyTorch's."""

    tasks: Count = 40
    """Tasks of a meta-step."""
    trajectories: Several = 20
    """Trajectories of a task, before the inner step and again after it."""
    horizon: Count = 100
    """Time steps of a trajectory."""
    width: Count = 100
    """Units of each of the two hidden layers."""
    rounds: Count = 7
    """Timed meta-steps of each, in turns."""


@dataclass(frozen=True)
class Cheetah(MetaStep):
    """A few meta-steps of MAML on a half-cheetah, on MuJoCo MJX: an example."""

    task: Literal["direction", "velocity"] = "direction"
    """What differs between tasks: the direction to run in, or the target velocity."""
    steps: Count = 2
    """Meta-steps."""
    tasks: Count = 4
    """Tasks of a meta-step."""
    trajectories: Several = 4
    """Trajectories of a task, before the inner step and again after it."""
    horizon: Count = 20
    """Time steps of a trajectory; MAML's authors take 200."""
    width: Count = 32
    """Units of each of the two hidden layers."""
