"""Learners that change as training goes on."""

from collections.abc import Callable

import jax
import optax

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


def annealed(
    build: Callable[[Array], Learner], values: optax.Schedule
) -> LearnerSchedule:
    """A learner of a number that changes with the meta-steps, such as a temperature.

    Args:
      build: `build(value) -> Learner`, of a traced number; all of one structure of
        meta-parameters.
      values: `values(step) -> value`, any schedule of optax.

    Returns:
      A schedule for `metajax.fit` and `metajax.train_step`.

    MetaNAS's softmax, whose temperature falls once the weights have been trained:

    >>> import metajax as mj
    >>> model = mj.models.cells(5, mj.models.CellSpace(nodes=2), channels=8)
    >>> def build(temperature):
    ...     sharper = mj.models.at_temperature(model, temperature)
    ...     return mj.learners.tnas(sharper, mj.cross_entropy, optax.sgd(0.1), steps=5)
    >>> falling = optax.linear_schedule(1.0, 0.05, 15_000, transition_begin=15_000)
    >>> learner = annealed(build, falling)

    Source: Elsken et al., "Meta-Learning of Neural Architectures for Few-Shot Learning"
    (MetaNAS), CVPR 2020, section 4.2.
    """

    def schedule(done: Array) -> Learner:
        return build(jax.numpy.asarray(values(done)))

    return schedule
