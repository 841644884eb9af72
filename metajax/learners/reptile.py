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
from metajax.learners.problem import Problem, measured, of, settling, solver
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
    """Reptile: the outer gradient is the way back from the adapted parameters.

      g = (1/B) Σ_i (θ - θ'_i),   θ'_i = `steps` steps on the support set of task i

    With the outer optimizer `optax.sgd(ε)` it is the paper's θ ← θ + ε (θ' - θ). The
    query set plays no part but in the metrics, so give it more shots in training than
    in tests: the paper gives it 10 or 15 for a test of 1.

    Args:
      model: the network.
      loss: see `metajax.maml`.
      optimizer: the inner optimizer; the paper's is `metajax.adam(1e-3, b1=0.0)`.
      steps: inner steps; more than 1, since of one step Reptile learns what joint
        training would.
      view: what each step sees of the support set; the paper's is
        `metajax.mini_batches(size)`.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner`; the value of its loss is that on the query set after adaptation, its
      gradient as above.

    Raises:
      InputError: if `steps` is not a whole number of at least 0.

    >>> import metajax as mj
    >>> learner = reptile(
    ...     mj.mlp(), mj.mse, optax.sgd(0.02), steps=5, view=mj.mini_batches(5)
    ... )

    Source: Nichol et al., "On First-Order Meta-Learning Algorithms", 2018.
    """
    value = of(model, loss)

    def pose(meta: Params, support: Batch) -> Problem:
        return Problem(value, optimizer, meta, support)

    descend, visited = solver(pose, steps, grad=first_order, view=view)
    adapt, trajectory = settling(model, descend, visited)

    measure = measured(model.forward, loss, metrics)

    def outer_loss(meta: Params, episode: Episode) -> tuple[Array, Metrics]:
        check_episode(episode)
        still = jax.lax.stop_gradient((meta, episode.support))
        adapted = jax.lax.stop_gradient(descend(*still))
        values = measure(
            model.settle(adapted, values_of(episode.support.inputs)), episode.query
        )
        # Adds nothing to the value, and θ - θ' to the gradient.
        half_square = sum(
            jnp.sum((x - y) ** 2) / 2
            for x, y in zip(*map(jax.tree.leaves, map(learnt, (meta, adapted))))
        )
        return values["loss"] + half_square - jax.lax.stop_gradient(half_square), values

    return Learner(model.init, adapt, model.predict, outer_loss, trajectory)
