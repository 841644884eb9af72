"""Oracles and classical strategies beside the published figures.

    python -m benchmarks.rl bandit --arms 5 --pulls 10 [--to RECORD.json]
    python -m benchmarks.rl mdp --episodes 10

Bandits: the mean total reward of Bernoulli arms, p ~ U[0, 1]. MDPs: the mean total
reward, and its share of what value iteration on the known MDP earns. Intervals are of
95 % over tasks, of shares by a jackknife; seconds include compilation.
"""

import sys

from benchmarks.command import run_command
from benchmarks.rl.rows import keep, markdown, read_earlier
from benchmarks.rl.settings import Bandit, Mdp
from benchmarks.rl.tables import bandit_tables, mdp_tables


def main(settings: Bandit | Mdp) -> None:
    """Prints the tables, and keeps their record."""
    read_earlier(settings.to)
    if isinstance(settings, Bandit):
        tables = bandit_tables(settings)
    else:
        tables = mdp_tables(settings)
    print("\n\n".join(map(markdown, tables)))
    keep(settings.to, tables)


if __name__ == "__main__":
    sys.exit(run_command(main, Bandit | Mdp, "benchmarks.rl", __doc__))
