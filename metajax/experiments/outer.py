"""The outer loop's configuration, and its optimizer."""

from dataclasses import dataclass
from typing import Literal

import optax

from metajax.experiments.bounds import Chunk, Count, CountOrZero, Positive, Share
from metajax.training import parameter_average

OPTIMIZERS = {
    "adam": lambda rate, decay: optax.adamw(rate, weight_decay=decay),
    "sgd": lambda rate, decay: optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(rate)
    ),
    "nesterov": lambda rate, decay: optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(rate, 0.9, nesterov=True)
    ),
}
WARM_UP = 0.04  # of the meta-steps


@dataclass(frozen=True)
class Outer:
    """Meta-training."""

    steps: CountOrZero = 60_000
    """Number of meta-steps; 0 evaluates the learner untrained. To train a finished run
    further, raise it."""
    tasks: Count = 32
    """Tasks per meta-batch."""
    rate: Positive = 1e-3
    """Outer learning rate (the peak of the schedule)."""
    optimizer: Literal["adam", "sgd", "nesterov"] = "adam"
    """Outer optimizer; Nesterov's momentum is 0.9."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the outer learning rate; cosine includes a warm-up over the first 4 %
    of the meta-steps."""
    clip: Positive | None = None
    """Largest global norm of the meta-gradient, above which it is scaled down; no limit
    by default."""
    clip_each: Positive | None = None
    """Largest absolute value of each entry of the meta-gradient, as in Finn's code for
    miniImageNet; no limit by default."""
    weight_decay: Share = 0.0
    """Weight decay of all meta-parameters, including learnt rates and MTL's factors;
    for adam it is decoupled (AdamW)."""
    average: Share | None = None
    """Decay of a running average of the meta-parameters, which is evaluated in their
    place; 0.999 is usual. No average by default."""
    tasks_per_chunk: Chunk = "auto"
    """Tasks computed at once; by default (auto) as many as stay in cache, or fit in
    memory."""

    def build(self, updates: int = 1) -> optax.GradientTransformation:
        """The outer optimizer, of so many updates a meta-step."""
        steps = self.steps * updates
        rate: optax.ScalarOrSchedule = self.rate
        if self.schedule == "cosine":
            rate = optax.warmup_cosine_decay_schedule(
                init_value=0.0,
                peak_value=self.rate,
                warmup_steps=max(1, round(WARM_UP * steps)),
                decay_steps=max(2, steps),
                end_value=0.01 * self.rate,
            )
        each, clip, average = self.clip_each, self.clip, self.average
        return optax.chain(
            optax.identity() if each is None else optax.clip(each),
            optax.identity() if clip is None else optax.clip_by_global_norm(clip),
            OPTIMIZERS[self.optimizer](rate, self.weight_decay),
            optax.identity()
            if average is None
            else parameter_average(average ** (1 / updates)),
        )
