"""What gradient-based learners share: an inner problem, its solver, the learner."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.keyed import values_of
from metajax.checks import check_count, check_model
from metajax.gradients import exact
from metajax.inner import LossFn, View, inner_loop, inner_trajectory, whole
from metajax.learners.outer_loss import query_loss
from metajax.learners.partition import PathPredicate, combine, partition
from metajax.losses import over_present
from metajax.types import (
    Array,
    Batch,
    GradTransform,
    Learner,
    Loss,
    Model,
    Params,
    PyTree,
)


def unchanged(params: Params, step: Array | int) -> PyTree:
    """The parameters, where they are all that a task adapts."""
    return params


class Problem(NamedTuple):
    """What the inner loop of one task solves.

    Attributes:
      loss: `loss(params, batch) -> scalar`.
      optimizer: the inner optimizer.
      params: the parameters to start from.
      batch: the support set.
      finish: `finish(params, k) -> adapted`, what the learner adapts to after k steps.
    """

    loss: LossFn
    optimizer: optax.GradientTransformation
    params: Params
    batch: Batch
    finish: Callable[[Params, Array | int], PyTree] = unchanged


class Solver(NamedTuple):
    """The inner loop of a learner, as functions of its meta-parameters.

    Attributes:
      adapt: `adapt(meta, support) -> adapted`, after the last step.
      trajectory: `trajectory(meta, support) -> adapted` after each step, stacked.
    """

    adapt: Callable[[PyTree, Batch], PyTree]
    trajectory: Callable[[PyTree, Batch], PyTree]


def model_loss(model: Model, loss: Loss) -> LossFn:
    """`loss` of a model's outputs, as a function of parameters and a batch."""
    score = over_present(loss)

    def loss_fn(params: Params, batch: Batch) -> Array:
        return score(model.forward(params, batch.inputs), batch.targets)

    return loss_fn


def restricted(problem: Problem, adapts: PathPredicate) -> Problem:
    """The problem of some of the parameters; the others are constants in it.

    Raises:
      InputError: if `adapts` is true of no parameter.
    """
    part, rest = partition(adapts, problem.params)

    def loss(part: Params, batch: Batch) -> Array:
        return problem.loss(combine(part, rest), batch)

    def finish(part: Params, step: Array | int) -> PyTree:
        return problem.finish(combine(part, rest), step)

    return problem._replace(loss=loss, params=part, finish=finish)


def solver(
    make_problem: Callable[[PyTree, Batch], Problem],
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
) -> Solver:
    """The solver of `make_problem(meta, support)` by `steps` inner steps.

    Args:
      make_problem: `make_problem(meta, support) -> Problem`, of one task.
      steps: the number of inner steps.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.

    Returns:
      A `Solver`.

    Raises:
      InputError: if `steps` is not a whole number of at least 0.
    """
    check_count("steps", steps, least=0)

    def adapt(meta: PyTree, support: Batch) -> PyTree:
        loss, optimizer, params, batch, finish = make_problem(meta, support)
        run = inner_loop(loss, optimizer, steps, grad=grad, view=view)
        return finish(run(params, batch), steps)

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        loss, optimizer, params, batch, finish = make_problem(meta, support)
        run = inner_trajectory(loss, optimizer, steps, grad=grad, view=view)
        return jax.vmap(finish)(run(params, batch), jnp.arange(steps + 1))

    return Solver(adapt, trajectory)


def gradient_learner(
    model: Model, solver: Solver, loss: Loss, metrics: Mapping[str, Loss] | None
) -> Learner:
    """The learner that adapts a network's parameters by `solver`.

      min_θ Σ_i L_query(adapt(θ, support set of task i))

    Args:
      model: the network, whose parameters `solver` returns.
      solver: the inner loop.
      loss: `loss(outputs, targets) -> scalar` of the query set.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner`. Its meta-parameters are the model's: replace `init` where they are
      not.

    Raises:
      InputError: if the model is not a `Model`.
    """
    check_model(model)

    def adapt(meta: PyTree, support: Batch) -> Params:
        return model.settle(solver.adapt(meta, support), values_of(support.inputs))

    def trajectory(meta: PyTree, support: Batch) -> Params:
        settle = jax.vmap(model.settle, (0, None))
        return settle(solver.trajectory(meta, support), values_of(support.inputs))

    outer_loss = query_loss(adapt, model.forward, loss, metrics)
    return Learner(model.init, adapt, model.predict, outer_loss, trajectory)
