"""Sine waves of Finn's family, 5, 10 and 20 points: squared error after adaptation.

    python -m benchmarks.papers.sinusoid 10 --budget small

Trained and tested with as many points, 5 inner steps in training and 10 in the test. No
paper prints these figures: Finn's has curves, and Meta-SGD's another family. `joint` is
Finn's baseline, the same net trained on all waves at once and fine-tuned at some rate.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from benchmarks.command import run_command
from benchmarks.papers.table import Budget, Row, Settings, build, changed
from metajax.experiments.presets import PRESETS

LEARNERS: dict[str, dict[str, Any]] = {
    "maml": {},
    "fomaml": {"learner": "fomaml"},
    "anil": {"learner": "anil"},
    "boil": {"learner": "boil"},
    "reptile": {
        "learner": "reptile",
        "data.train_shots": 50,
        "inner.rate": 0.02,
        "inner.batch": 10,
        "outer.optimizer": "sgd",
        "outer.rate": 0.1,
    },
    # Its rates are learnt at the outer rate, and 1e-3 is a tenth of where they start.
    "meta-sgd": {"learner": "meta-sgd", "outer.rate": 3e-4},
    "meta-curvature": {"learner": "meta-curvature"},
    "maml++": {"learner": "maml++", "outer.rate": 3e-4},
    "cavia": {"learner": "cavia", "inner.rate": 1.0},
    # It diverges past the steps it was trained for.
    "meta-lstm": {"learner": "meta-lstm", "outer.rate": 3e-3, "evaluation.steps": 5},
    "joint, 0.001": {"inner.steps": 0, "inner.rate": 0.001},
    "joint, 0.003": {"inner.steps": 0, "inner.rate": 0.003},
    "joint, 0.01": {"inner.steps": 0, "inner.rate": 0.01},
}
BUDGETS: dict[Budget, dict[str, Any]] = {
    "full": {"outer.steps": 70_000},
    "small": {"outer.steps": 3_000},
}


@dataclass(frozen=True)
class Sinusoid:
    """Which number of points has its table made, and how."""

    shots: tyro.conf.Positional[Literal[5, 10, 20]]
    """Support points, in training and in the test."""
    settings: tyro.conf.OmitArgPrefixes[Settings] = Settings()


def rows(shots: int, budget: Budget) -> Mapping[str, Row]:
    """The rows of a number of points at a budget, by name."""
    common = {"data.shots": shots} | BUDGETS[budget]
    return {
        name: Row(changed(PRESETS["sinusoid"], common | changes))
        for name, changes in LEARNERS.items()
    }


def main(args: Sinusoid) -> None:
    """Prints the table."""
    results = rows(args.shots, args.settings.budget)
    print(build(f"sinusoid-{args.shots}", results, args.settings))


if __name__ == "__main__":
    sys.exit(run_command(main, Sinusoid, "benchmarks.papers.sinusoid", __doc__))
