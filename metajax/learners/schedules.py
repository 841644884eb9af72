"""Learners that change as training goes on."""

import jax

from metajax.types import (
    Array,
    Episode,
    Learner,
    LearnerSchedule,
    Metrics,
    PyTree,
    learner_at,
)


def switch(
    step: int, before: Learner | LearnerSchedule, after: Learner | LearnerSchedule
) -> LearnerSchedule:
    """One learner for the first `step` meta-steps, and another from then on.

    `switch(n, fomaml(...), maml(...))` is MAML++'s derivative-order annealing, which
    starts with the cheaper gradient. Only one of the two runs at each step.

    Args:
      step: the number of meta-steps of the first.
      before: the first learner, or a schedule.
      after: the second, with the same meta-parameters and metrics.

    Returns:
      A schedule for `metajax.fit` and `metajax.train_step`.

    >>> import metajax as mj, optax
    >>> parts = mj.mlp(), mj.mse, optax.sgd(0.01), 5
    >>> learner = switch(1000, mj.fomaml(*parts), mj.maml(*parts))
    >>> state = mj.fit(learner, optax.adam(1e-3), mj.data.sinusoid(), steps=20, tasks=4)

    Source: Antoniou et al., "How to Train Your MAML", ICLR 2019, section 4 (DA).
    """

    def schedule(done: Array) -> Learner:
        first, then = learner_at(before, done), learner_at(after, done)

        def loss(meta: PyTree, episode: Episode) -> tuple[Array, Metrics]:
            return jax.lax.cond(done < step, first.loss, then.loss, meta, episode)

        return then._replace(loss=loss)

    return schedule
