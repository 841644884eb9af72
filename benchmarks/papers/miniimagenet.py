"""miniImageNet, 5 ways, 1 and 5 shots: accuracy on the test classes of your folder.

    python -m benchmarks.papers.miniimagenet 5w1s --images DIR --budget full

DIR holds the images and their split: train/CLASS/*, val/ and test/ likewise, or Ravi
and Larochelle's train.csv, val.csv and test.csv with the files in images/. The full
budget has MAML's protocol but for what a row says, as near as a preset comes to it:
Conv4 of 32 filters, Finn's loss, 15 training queries a class. The papers of 64 filters
are marked so. Test queries are 15 a class, where MAML's own figure had one: that alone
costs about 2.5 points. Reptile's and iMAML's settings are near theirs, not the same.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from benchmarks.command import run_command
from benchmarks.papers.table import Budget, Row, Settings, build, by_learner

Setting = Literal["5w1s", "5w5s"]
SETTINGS: tuple[Setting, ...] = ("5w1s", "5w5s")

PUBLISHED = {
    "maml": ("48.70 ± 1.84", "63.11 ± 0.92"),
    "fomaml": ("48.07 ± 1.75", "63.15 ± 0.91"),
    "anil": ("46.7 ± 0.4", "61.5 ± 0.5"),
    "boil": ("49.61 ± 0.16 (64)", "66.45 ± 0.37 (64)"),
    "reptile": ("49.97 ± 0.32", "65.99 ± 0.58"),
    "meta-sgd": ("50.47 ± 1.87", "64.03 ± 0.94"),
    "maml++": ("52.15 ± 0.26", "68.32 ± 0.44"),
    "imaml": ("49.30 ± 1.88", ""),
    "prototypical": ("49.42 ± 0.78 (64)", "68.20 ± 0.66 (64)"),
    "matching": ("43.40 ± 0.78 (64)", "51.09 ± 0.71 (64)"),
    "relation": ("50.44 ± 0.82 (64)", "65.32 ± 0.70 (64)"),
    "r2d2": ("51.8 ± 0.2 (96 to 512)", "68.4 ± 0.2 (96 to 512)"),
    "meta-opt-net": ("52.87 ± 0.57 (64)", "68.76 (64)"),
}
# An episode a meta-step, and Adam at a rate that falls.
EPISODES = {
    "loss": "mean",
    "model.filters": 64,
    "outer.tasks": 1,
    "outer.clip_each": None,
    "outer.schedule": "cosine",
}
ROWS: dict[str, dict[str, Any]] = {
    "maml": {},
    "fomaml": {},
    "anil": {},
    "boil": {
        "model.filters": 64,
        "model.head": "glorot",
        "loss": "mean",
        "inner.rate": 0.5,
        "inner.steps": 1,
        "evaluation.steps": 1,
    },
    "reptile": {
        "loss": "mean",
        "data.train_shots": 15,
        "data.queries": 5,
        "inner.optimizer": "adam-b1-0",
        "inner.rate": 1e-3,
        "inner.steps": 8,
        "inner.batch": 10,
        "outer.clip_each": None,
        "outer.optimizer": "sgd",
        "outer.rate": 1.0,
        "outer.schedule": "cosine",
        "outer.tasks": 5,
        "outer.steps": 100_000,
        "evaluation.steps": 50,
    },
    "meta-sgd": {
        "loss": "mean",
        "inner.rate": 0.1,
        "inner.steps": 1,
        "evaluation.steps": 1,
    },
    "maml++": {
        "model.filters": 48,
        "loss": "mean",
        "inner.rate": 0.01,
        "inner.steps": 5,
        "outer.tasks": 2,
        "outer.steps": 50_000,
        "inner.multi_step": 7_500,
        "evaluation.steps": 5,
    },
    "imaml": {
        "loss": "mean",
        "inner.rate": 0.1,
        "inner.steps": 10,
        "inner.strength": 0.5,
        "inner.damping": 10.0,
        "model.head": "glorot",
    },
    "prototypical": EPISODES | {"data.train_ways": 20},
    "matching": EPISODES,
    "relation": EPISODES | {"model.halvings": 2},
    "r2d2": EPISODES,
    "meta-opt-net": EPISODES,
}
SMALL = {"outer.steps": 2_000}
SMALL_MAML_PLUS_PLUS = ROWS["maml++"] | {"inner.multi_step": 0}


@dataclass(frozen=True)
class MiniImageNet:
    """Which setting has its table made, and how."""

    setting: tyro.conf.Positional[Setting]
    """Ways and shots of the tasks."""
    settings: tyro.conf.OmitArgPrefixes[Settings] = Settings()


def rows(setting: Setting, budget: Budget) -> Mapping[str, Row]:
    """The rows of a setting at a budget, by learner."""
    suffix, last = {"full": ("", {}), "small": ("-small", SMALL)}[budget]
    published = {n: p[SETTINGS.index(setting)] for n, p in PUBLISHED.items()}
    own = ROWS if budget == "full" else ROWS | {"maml++": SMALL_MAML_PLUS_PLUS}
    return by_learner(f"miniimagenet-{setting}{suffix}", own, published, last)


def main(args: MiniImageNet) -> None:
    """Prints the table."""
    results = rows(args.setting, args.settings.budget)
    print(build(f"miniimagenet-{args.setting}", results, args.settings))


if __name__ == "__main__":
    sys.exit(run_command(main, MiniImageNet, "benchmarks.papers.miniimagenet", __doc__))
