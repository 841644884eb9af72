"""CAVIA: a few context parameters adapt, the network does not."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from metajax._pytrees.keyed import Keyed, values_of
from metajax.checks import check_count, check_model
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.ops.precision import dtype_of
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
    keep,
)


def append(inputs: Array, context: Array) -> Array:
    """The context as further features, or channels, of every example."""
    shape = (*inputs.shape[:-1], *context.shape)
    with jax.numpy_dtype_promotion("standard"):  # inputs may be whole numbers
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
      model: the network, whose inputs are joined with the context: with the default
        `join`, they have `context` more features than the data.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      optimizer: the inner optimizer, with its learning rate α.
      steps: the number of inner steps K.
      context: the number of context parameters φ.
      join: `join(inputs, φ) -> inputs of the model`.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are the model's; `adapt` returns `{"params": θ,
      "context": φ}`.

    Raises:
      InputError: if `context` is below 1, or `steps` below 0.

    >>> import metajax as mj
    >>> learner = cavia(mj.mlp(inputs=1 + 5), mj.mse, optax.sgd(1.0), steps=1)

    Source: Zintgraf et al., "Fast Context Adaptation via Meta-Learning", ICML 2019.
    """
    check_count("context", context, least=1)
    network = _in_context(model, join)
    loss_fn = model_loss(network, loss)

    def make_problem(meta: Params, support: Batch) -> Problem:
        def context_loss(context: Array, batch: Batch) -> Array:
            return loss_fn({"params": meta, "context": context}, batch)

        def finish(context: Array, step: Array | int) -> PyTree:
            adapted = {"params": meta, "context": context}
            return network.settle(adapted, values_of(support.inputs))

        start = jnp.zeros(context, dtype_of(meta))
        return Problem(context_loss, optimizer, start, support, finish)

    context_solver = solver(make_problem, steps, grad=grad, view=view)
    # Settled by `finish`, where all steps share θ.
    unsettled = network._replace(settle=keep)
    return gradient_learner(unsettled, context_solver, loss, metrics)


def _in_context(model: Model, join: Callable[[PyTree, Array], PyTree]) -> Model:
    """The network of parameters and a context, `{"params": θ, "context": φ}`."""
    check_model(model)

    def joined(inputs: PyTree, context: Array) -> PyTree:
        if isinstance(inputs, Padded | Keyed):
            return inputs._replace(values=joined(inputs.values, context))
        return join(inputs, context)

    def apply(params: PyTree, inputs: PyTree) -> PyTree:
        return model.forward(params["params"], joined(inputs, params["context"]))

    def inference(params: PyTree, inputs: PyTree) -> PyTree:
        return model.predict(params["params"], joined(inputs, params["context"]))

    def settle(params: PyTree, inputs: PyTree) -> PyTree:
        examples = joined(inputs, params["context"])
        return params | {"params": model.settle(params["params"], examples)}

    return Model(
        model.init, apply, settle=settle, inference=model.inference and inference
    )
