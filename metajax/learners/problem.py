"""What gradient-based learners share: an inner problem, and the learner it makes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.keyed import values_of
from metajax.checks import check_count, check_episode, check_model
from metajax.gradients import exact
from metajax.inner import LossFn, View, inner_loop, inner_trajectory, whole
from metajax.learners.choice import Chosen, joined, split
from metajax.losses import over_present
from metajax.types import (
    Array,
    Batch,
    Episode,
    GradTransform,
    Loss,
    Metrics,
    Model,
    Params,
    PyTree,
)


def unchanged(params: Params, step: Array | int) -> PyTree:
    """The parameters, which are what was adapted."""
    return params


class Problem(NamedTuple):
    """What the inner loop of one task solves.

    Attributes:
      loss: `loss(params, batch) -> scalar`.
      optimizer: the inner optimizer.
      params: where it starts; the rest of the meta-parameters stays as it is.
      batch: what it sees.
      finish: `finish(params, k) -> adapted`, after k steps.
    """

    loss: LossFn
    optimizer: optax.GradientTransformation
    params: Params
    batch: Batch
    finish: Callable[[Params, Array | int], PyTree] = unchanged


def of_part(problem: Problem, adapts: Chosen) -> Problem:
    """The problem of some of the parameters; the others stay as they are.

    Raises:
      InputError: if `adapts` chooses none.
    """
    part, rest = split(adapts, problem.params)

    def loss(part: Params, batch: Batch) -> Array:
        return problem.loss(joined(part, rest), batch)

    def finish(part: Params, step: Array | int) -> PyTree:
        return problem.finish(joined(part, rest), step)

    return problem._replace(loss=loss, params=part, finish=finish)


def solver(
    pose: Callable[[PyTree, Batch], Problem],
    steps: int,
    *,
    grad: GradTransform = exact,
    view: View = whole,
) -> tuple[Callable[[PyTree, Batch], PyTree], Callable[[PyTree, Batch], PyTree]]:
    """`adapt` and `trajectory` of a learner that solves `pose(meta, support)`.

    Args:
      pose: `pose(meta, support) -> Problem`.
      steps: of the inner loop.
      grad: how the inner gradient is differentiated.
      view: see `metajax.inner_loop`.

    Returns:
      The two functions of (meta, support).

    Raises:
      InputError: if `steps` is not a whole number of at least 0.
    """
    check_count("steps", steps, least=0)

    def adapt(meta: PyTree, support: Batch) -> PyTree:
        problem = pose(meta, support)
        run = inner_loop(problem.loss, problem.optimizer, steps, grad=grad, view=view)
        return problem.finish(run(problem.params, problem.batch), steps)

    def trajectory(meta: PyTree, support: Batch) -> PyTree:
        problem = pose(meta, support)
        run = inner_trajectory(
            problem.loss, problem.optimizer, steps, grad=grad, view=view
        )
        found = run(problem.params, problem.batch)
        return jax.vmap(problem.finish)(found, jnp.arange(steps + 1))

    return adapt, trajectory


def settling(
    model: Model,
    adapt: Callable[[PyTree, Batch], Params],
    trajectory: Callable[[PyTree, Batch], Params],
) -> tuple[Callable[[PyTree, Batch], Params], Callable[[PyTree, Batch], Params]]:
    """Both functions, then what the network keeps of the support set.

    Args:
      model: the network.
      adapt: of (meta, support) to all of its parameters.
      trajectory: the same after each step, stacked.

    Returns:
      The two functions of (meta, support).
    """

    def settled(meta: PyTree, support: Batch) -> Params:
        return model.settle(adapt(meta, support), values_of(support.inputs))

    def all_settled(meta: PyTree, support: Batch) -> Params:
        settle = jax.vmap(model.settle, (0, None))
        return settle(trajectory(meta, support), values_of(support.inputs))

    return settled, all_settled


def of(model: Model, loss: Loss) -> LossFn:
    """`loss` of a model's outputs, as a function of parameters and a batch.

    Raises:
      InputError: if the model is not a `Model`.
    """
    check_model(model)

    score = over_present(loss)

    def value(params: Params, batch: Batch) -> Array:
        return score(model.forward(params, batch.inputs), batch.targets)

    return value


def measured(
    predict: Callable[[PyTree, PyTree], PyTree],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Callable[[PyTree, Batch], Metrics]:
    """The loss and the metrics by name, of what was adapted and a batch."""
    named = {**(metrics or {}), "loss": loss}
    measures = {name: over_present(measure) for name, measure in named.items()}

    def values(adapted: PyTree, batch: Batch) -> Metrics:
        outputs = predict(adapted, batch.inputs)
        return {name: f(outputs, batch.targets) for name, f in measures.items()}

    return values


def query_loss(
    adapt: Callable[[PyTree, Batch], PyTree],
    predict: Callable[[PyTree, PyTree], PyTree],
    loss: Loss,
    metrics: Mapping[str, Loss] | None,
) -> Callable[[PyTree, Episode], tuple[Array, Metrics]]:
    """The outer loss L_query(adapt(meta, support)), with its metrics by name."""
    measure = measured(predict, loss, metrics)

    def outer_loss(meta: PyTree, episode: Episode) -> tuple[Array, Metrics]:
        check_episode(episode)
        values = measure(adapt(meta, episode.support), episode.query)
        return values["loss"], values

    return outer_loss
