"""CAVIA: a few context parameters adapt, the network does not."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from metajax._pytrees.keyed import Keyed, undrawn, values_of
from metajax.checks import check_count
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.problem import Problem, of, query_loss, solver
from metajax.types import (
    Array,
    Batch,
    GradTransform,
    Learner,
    Loss,
    Model,
    Padded,
    Params,
    PyTree,
    unpadded,
)


def append(inputs: Array, context: Array) -> Array:
    """The context as further features, or channels, of every example."""
    shape = (*inputs.shape[:-1], *context.shape)
    return jnp.concatenate([inputs, jnp.broadcast_to(context, shape)], axis=-1)


def cavia(
    model: Model,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    context: int = 5,
    join: Callable[[PyTree, Array], PyTree] = append,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML whose inner loop adapts context parameters, which are inputs of the network.

      φ_0 = 0,  φ_{k+1} = φ_k - α ∇_φ L_support(θ, φ_k)
      min_θ Σ_i L_query(θ, φ_K)

    Args:
      model: the network, of inputs that `join` made: with the default, of `context`
        more features than the data have.
      loss: see `metajax.maml`.
      optimizer: see `metajax.maml`.
      steps: see `metajax.maml`.
      context: the number of context parameters.
      join: `join(inputs, φ) -> inputs of the model`.
      grad: see `metajax.maml`.
      view: see `metajax.maml`.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are the model's; `adapt` returns `{"params": θ,
      "context": φ}`.

    Raises:
      InputError: if `context` is below 1, or `steps` below 0.

    >>> import jax, metajax as mj
    >>> learner = cavia(mj.mlp(inputs=1 + 5), mj.mse, optax.sgd(1.0), steps=1)
    >>> episode = jax.tree.map(lambda x: x[0], mj.data.sinusoid()(jax.random.key(0), 1))
    >>> adapted = learner.adapt(learner.init(jax.random.key(1)), episode.support)
    >>> adapted["context"].shape
    (5,)

    Source: Zintgraf et al., "Fast Context Adaptation via Meta-Learning", ICML 2019.
    """
    check_count("context", context, least=1)

    value = of(model, loss)

    def joined(inputs: PyTree, context: Array) -> PyTree:
        if isinstance(inputs, Padded | Keyed):
            return inputs._replace(values=joined(inputs.values, context))
        return join(inputs, context)

    def forward(adapted: PyTree, inputs: PyTree) -> PyTree:
        return model.forward(adapted["params"], joined(inputs, adapted["context"]))

    def predict(adapted: PyTree, inputs: PyTree) -> PyTree:
        return forward(adapted, undrawn(inputs))

    def pose(meta: Params, support: Batch) -> Problem:
        def finish(context: Array, step: Array | int) -> PyTree:
            params = model.settle(meta, joined(values_of(support.inputs), context))
            return {"params": params, "context": context}

        def of_context(context: Array, batch: Batch) -> Array:
            return value(meta, batch._replace(inputs=joined(batch.inputs, context)))

        start = jnp.zeros(context, jnp.result_type(unpadded(support.inputs)[0]))
        return Problem(of_context, optimizer, start, support, finish)

    adapt, trajectory = solver(pose, steps, grad=grad, view=view)
    outer = query_loss(adapt, forward, loss, metrics)
    return Learner(model.init, adapt, predict, outer, trajectory)
