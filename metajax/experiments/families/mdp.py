"""Random tabular Markov decision processes."""

from dataclasses import dataclass

from metajax import rl
from metajax.experiments.bounds import Count
from metajax.experiments.families.trials import TrialData


@dataclass(frozen=True)
class MdpData(TrialData):
    """Random tabular Markov decision processes (Duan et al., 2016)."""

    origin = "mdp", "generated on demand"
    states: Count = 10
    """Number of states."""
    actions: Count = 5
    """Number of actions."""
    horizon: Count = 10
    """Steps per episode."""
    episodes: Count = 10
    """Episodes per trial."""

    def environment(self) -> rl.Environment:
        """The process."""
        return rl.tabular_mdp(self.states, self.actions, self.horizon)

    def references(self) -> dict[str, float]:
        """What value iteration earns on known MDPs (`python -m benchmarks.rl mdp`)."""
        optimal = {MdpData(): 218.1, MdpData(episodes=25): 545.3}.get(self)
        return {} if optimal is None else {"value iteration": optimal}
