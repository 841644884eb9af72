"""Bad input at scale: every edge of tests/fuzz, many more cases of each.

    python -m benchmarks.fuzz [--share 0.1] [--seed 1] [--edges "command lines"]

A case that breaks the promise is shrunk, printed and ends the run with its traceback.
"""

import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Annotated

from benchmarks.command import run_command
from benchmarks.settings import Amount, Index, some_of
from tests.fuzz import runs, sources
from tests.fuzz.edge import REFUSED, TAKEN, drive

EDGES = runs.EDGES | sources.EDGES
ROUND = 1000  # cases; Hypothesis remembers those of a round


@dataclass(frozen=True)
class Settings:
    """Which edges are tried, and with how many cases."""

    edges: Annotated[tuple[str, ...], some_of("edge", EDGES)] = tuple(EDGES)
    """Edges to try, by name; all by default."""
    share: Amount = 1.0
    """Share of each edge's cases to try; 1 is all."""
    seed: Index = 0
    """Random seed for drawing the cases."""


def main(settings: Settings) -> None:
    """Prints a row an edge."""
    print("| edge | cases | taken | refused | s | peak MB |\n|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for name in settings.edges:
        began = time.monotonic()
        wanted = round(settings.share * EDGES[name].many)
        outcomes: Counter[str] = Counter()
        for start in range(0, wanted, ROUND):
            cases = min(ROUND, wanted - start)
            outcomes += drive(EDGES[name], cases, seed=settings.seed * 10**6 + start)
        _print(name, outcomes, f"{time.monotonic() - began:.0f} | {_peak():.0f}")
        total += outcomes
    _print("all", total, " | ")


def _print(name: str, outcomes: Counter[str], rest: str) -> None:
    cells = name, outcomes.total(), outcomes[TAKEN], outcomes[REFUSED], rest
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def _peak() -> float:
    """Peak memory of the process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.fuzz", __doc__))
