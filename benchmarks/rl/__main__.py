"""Oracles and classical strategies beside the published figures.

    python -m benchmarks.rl bandit --arms 5 --pulls 10 [--to RECORD.json]
    python -m benchmarks.rl mdp --episodes 10
    python -m benchmarks.rl navigation
    python -m benchmarks.rl cheetah --task direction --steps 2

Bandits: the mean total reward of Bernoulli arms, p ~ U[0, 1]. MDPs: the mean total
reward, and its share of what value iteration on the known MDP earns. Intervals are of
95 % over tasks, of shares by a jackknife; seconds include compilation. Navigation: the
time of a meta-step of MAML, metajax's and PyTorch's in turns. Cheetah: returns of the
first meta-steps of MAML on a half-cheetah; it needs `pip install "metajax[mjx]"`.
"""

import os
import sys

import jax

from benchmarks.command import run_command
from benchmarks.rl.cheetah_training import print_returns
from benchmarks.rl.rows import keep, markdown, read_earlier
from benchmarks.rl.settings import Bandit, Cheetah, Mdp, Navigation
from benchmarks.rl.tables import bandit_tables, mdp_tables
from benchmarks.rl.timed import print_times

Settings = Bandit | Mdp | Navigation | Cheetah


def main(settings: Settings) -> None:
    """Prints the tables, and keeps their record."""
    read_earlier(settings.to)
    if isinstance(settings, Navigation):
        keep(settings.to, print_times(settings))
        return
    if isinstance(settings, Cheetah):
        keep(settings.to, print_returns(settings))
        return
    if isinstance(settings, Bandit):
        tables = bandit_tables(settings)
    else:
        tables = mdp_tables(settings)
    keep(settings.to, tables)
    print("\n\n".join(markdown(title, rows) for title, rows in tables.items()))


if __name__ == "__main__":
    # Devices that share the tasks of a meta-step; the tables use the first.
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    sys.exit(run_command(main, Settings, "benchmarks.rl", __doc__))
