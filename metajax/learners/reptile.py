"""Reptile: towards the adapted parameters, with no gradient through the adaptation."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.constant import learnt
from metajax._pytrees.keyed import values_of
from metajax.checks import check_episode
from metajax.gradients import first_order
from metajax.inner import View, whole
from metajax.learners.outer_loss import query_metrics
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.types import (
    Array,
    Batch,
    Episode,
    Learner,
    Loss,
    Metrics,
    Model,
    Params,
)


def reptile(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """Reptile: the outer gradient points back from the adapted parameters.

      g = (1/B) Σ_i (θ - θ'_i),   θ'_i = `steps` steps on the support set of task i

    With the outer optimizer `optax.sgd(ε)` it is the paper's θ ← θ + ε (θ' - θ). The
    query set has no part in the gradient: the paper trains 10 to 15 shots for a 1-shot
    test.

    Args:
      model: the network; its parameters are the meta-parameters.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the inner optimizer; the paper's is `metajax.adam(1e-3, b1=0.0)`.
      steps: the number of inner steps; with a single one, Reptile is joint training.
      view: what each inner step sees of the support set; see `mini_batches`.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose loss has the value of the query set's, and the gradient above.

    Raises:
      InputError: if `steps` is not a whole number of at least 0.

    >>> import metajax as mj
    >>> learner = reptile(
    ...     mj.mlp(), mj.mse, optax.sgd(0.02), steps=5, view=mj.mini_batches(5)
    ... )

    Source: Nichol et al., "On First-Order Meta-Learning Algorithms", 2018.
    """
    loss_fn = model_loss(model, loss)

    def make_problem(meta: Params, support: Batch) -> Problem:
        return Problem(loss_fn, optimizer, meta, support)

    descent = solver(make_problem, steps, grad=first_order, view=view)
    learner = gradient_learner(model, descent, loss, metrics)
    measure = query_metrics(model.forward, loss, metrics)

    def outer_loss(meta: Params, episode: Episode) -> tuple[Array, Metrics]:
        check_episode(episode)
        constants = jax.lax.stop_gradient((meta, episode.support))
        adapted = jax.lax.stop_gradient(descent.adapt(*constants))
        settled = model.settle(adapted, values_of(episode.support.inputs))
        values = measure(settled, episode.query)
        pairs = zip(*map(jax.tree.leaves, (learnt(meta), learnt(adapted))))
        half_square = sum(jnp.sum((x - y) ** 2) / 2 for x, y in pairs)
        # Adds nothing to the value, and θ - θ' to the gradient.
        return values["loss"] + half_square - jax.lax.stop_gradient(half_square), values

    return learner._replace(loss=outer_loss)
