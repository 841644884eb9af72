"""How a run's result is measured."""

from dataclasses import dataclass
from typing import Any, ClassVar

from metajax.experiments.bounds import Count, CountOrZero, Seed, Tasks


@dataclass(frozen=True)
class Evaluating:
    """Evaluation on test tasks."""

    tasks: Tasks = 1000
    """Number of test tasks."""
    queries: Count = 15
    """Query examples per class (or per task, for regression)."""
    inductive_queries: CountOrZero = 15
    """Query examples per task that are also predicted independently of the others; 0 to
    skip this, as for networks that do not mix examples."""
    seed: Seed = 0
    """Random seed for sampling test tasks."""
    steps: ClassVar[int] = 0


@dataclass(frozen=True)
class EvaluatingSteps(Evaluating):
    """Evaluation on test tasks, for learners with an inner loop."""

    steps: CountOrZero = 3  # pyright: ignore (a class's constant elsewhere)
    """Inner steps on test tasks."""


@dataclass(frozen=True)
class EvaluatingTrials:
    """Evaluation on trials of an environment."""

    tasks: Tasks = 1000
    """Number of test tasks."""
    seed: Seed = 0
    """Random seed for sampling test tasks."""
    steps: ClassVar[int] = 0
    queries: ClassVar[Any] = None
    inductive_queries: ClassVar[Any] = None


@dataclass(frozen=True)
class EvaluatingTrialSteps(EvaluatingTrials):
    """Evaluation on trials of an environment, for learners with an inner loop."""

    steps: CountOrZero = 3  # pyright: ignore (a class's constant elsewhere)
    """Inner steps on test tasks."""


MEASUREMENTS = Evaluating, EvaluatingSteps, EvaluatingTrials, EvaluatingTrialSteps
