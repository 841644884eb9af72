"""Adaptation to the queries of a task before they are predicted, in an evaluation."""

from dataclasses import dataclass
from typing import Any

from metajax.errors import InputError
from metajax.experiments.bounds import CountOrZero, Positive, check_bounds
from metajax.experiments.config import Config
from metajax.experiments.tasks import Task
from metajax.inner import adam
from metajax.learners import tent
from metajax.types import Learner

TAKES = "classes", "masks"


@dataclass(frozen=True)
class Tent:
    """Tent: entropy minimisation on the unlabelled queries."""

    steps: CountOrZero = 0
    """Tent: Adam steps on the scales and offsets of the normalisation layers, which
    minimise the entropy of the predictions of all queries predicted together."""
    rate: Positive = 1e-3
    """Tent: learning rate of the Adam steps."""

    def wrap(self, learner: Learner, config: Config, task: Task) -> Learner:
        """The learner that adapts so; the same for no steps.

        Raises:
          InputError: if its outputs are not logits of classes.
        """
        check_bounds(self, "--tent.")
        if not self.steps:
            return learner
        if task.kind not in TAKES or not config.inner.logits:
            raise InputError(
                f"--tent.steps needs logits of {' or '.join(TAKES)}, and those of "
                f"{config.learner} on {task.kind} are none; leave it out"
            )
        return tent(learner, adam(self.rate), self.steps)

    @property
    def name(self) -> str:
        """Its part of the name of a result."""
        return f"-tent{self.steps}x{self.rate:g}" if self.steps else ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a protocol says of it."""
        return {"tent_steps": self.steps, "tent_rate": self.rate} if self.steps else {}
