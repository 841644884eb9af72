"""MAML++: each inner step has its own rates, batch norm and loss."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.core import Tracer

from metajax._pytrees.constant import learnt
from metajax.checks import check_count, check_episode, check_positive
from metajax.errors import InputError
from metajax.gradients import exact
from metajax.inner import LossFn, View, whole
from metajax.learners.inner_optimizer import InnerOptimizer, check_inner
from metajax.learners.outer_loss import query_metrics
from metajax.learners.partition import PathPredicate, combine, mask, scale_or_offset
from metajax.learners.problem import Problem, gradient_learner, model_loss, solver
from metajax.types import (
    Array,
    Batch,
    Episode,
    GradTransform,
    Learner,
    Loss,
    Metrics,
    Model,
    Params,
    PyTree,
)


def maml_plus_plus(
    model: Model,
    loss: Loss,
    inner: InnerOptimizer,
    steps: int,
    *,
    step_weights: Array | None = None,
    per_step: PathPredicate = scale_or_offset,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML++: a learnt rate, batch norm and a loss for each inner step.

      θ_{k+1} = θ_k - α_k ∘ ∇L_support(θ_k, γ_k)
      min_{θ,γ,α} Σ_i Σ_k w_k L_query(θ_k, γ_k)

    `inner=step_rates(rate, steps)` learns α, a rate for each array and step. Its two
    annealings are `switch`, from first-order gradients to exact ones, and
    `optax.cosine_decay_schedule` of the outer rate. Batch norm's statistics are the
    current batch's in every step, as in the authors' code. With `fixed(optimizer)`,
    `per_step=nothing` and no `step_weights` it is `metajax.maml`.

    Args:
      model: the network.
      loss: `loss(outputs, targets) -> scalar` of the support set and of the query set.
      inner: the inner optimizer and its learnt parameters.
      steps: the number of inner steps K.
      step_weights: w_1, ..., w_K, `float[steps]`, as `multi_step_weights` returns them;
        the last step's loss alone by default.
      per_step: `per_step(path) -> bool`, which arrays, γ, differ with the number of
        steps taken, 0 to K, and are learnt in the outer loop alone: batch norm's scale
        and offset by default. Steps beyond K take the last ones.
      grad: how the inner gradient is differentiated; see `metajax.inner_loop`.
      view: what each inner step sees of the support set; all of it by default.
      metrics: more functions of (outputs, targets) to report, by name.

    Returns:
      A `Learner` whose meta-parameters are `{"params": θ, "per_step": γ, "inner": α}`.

    Raises:
      InputError: if `inner` is an optimizer of optax, `steps` is not a whole number
        of at least 0, or there is not one weight for each step.

    >>> import metajax as mj
    >>> inner = mj.learners.step_rates(0.1, steps=2)
    >>> learner = maml_plus_plus(mj.conv4(5), mj.cross_entropy, inner, steps=2)

    Source: Antoniou et al., "How to Train Your MAML", ICLR 2019.
    """
    check_inner(inner)
    make_problem = _make_problem(model_loss(model, loss), inner)
    step_solver = solver(make_problem, steps, grad=grad, view=_numbered(view))
    learner = gradient_learner(model, step_solver, loss, metrics)
    learner = learner._replace(init=_init(model, inner, steps, per_step))
    if step_weights is None:
        return learner
    measure = query_metrics(model.forward, loss, metrics)
    own = _multi_step_loss(learner.trajectory, measure, _checked(step_weights, steps))
    return learner._replace(loss=own)


def _init(
    model: Model, inner: InnerOptimizer, steps: int, per_step: PathPredicate
) -> Callable[[Array], PyTree]:
    def init(key: Array) -> PyTree:
        params_key, inner_key = jax.random.split(key)
        params = jax.tree.map(jnp.asarray, model.init(params_key))
        own = mask(per_step, params)
        shared = jax.tree.map(lambda x, o: None if o else x, params, own)
        stacked = jax.tree.map(
            lambda x, o: jnp.stack([x] * (steps + 1)) if o else None, params, own
        )
        rule = inner.init(inner_key, learnt(shared))
        return {"params": shared, "per_step": stacked, "inner": rule}

    return init


def _make_problem(
    loss_fn: LossFn, inner: InnerOptimizer
) -> Callable[[PyTree, Batch], Problem]:
    """`make_problem(meta, support)`, whose batch comes with the number of the step."""

    def make_problem(meta: PyTree, support: Batch) -> Problem:
        def finish(params: Params, step: Array | int) -> Params:
            own = jax.tree.map(
                lambda x: x[jnp.minimum(step, len(x) - 1)], meta["per_step"]
            )
            return combine(params, own)

        def loss(params: Params, numbered: tuple[Batch, Array]) -> Array:
            batch, step = numbered
            return loss_fn(finish(params, step), batch)

        optimizer = inner.build(meta["inner"])
        return Problem(loss, optimizer, meta["params"], support, finish)

    return make_problem


def _checked(weights: Array, steps: int) -> Array:
    """The weights, one for each of the steps."""
    if not steps:
        raise InputError("step_weights needs steps of at least 1, got 0; leave it out")
    try:
        array = jnp.asarray(weights)
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape != (steps,):
        raise InputError(
            f"step_weights must be [{steps}], one number for each step, got "
            f"{weights if array is None else list(array.shape)}; see "
            "metajax.learners.multi_step_weights"
        )
    return array


def _numbered(view: View) -> View:
    """A view with the number of the step."""
    return lambda batch, step: (view(batch, step), step)


def _multi_step_loss(
    trajectory: Callable[[PyTree, Batch], Params],
    measure: Callable[[Params, Batch], Metrics],
    weights: Array,
) -> Callable[[PyTree, Episode], tuple[Array, Metrics]]:
    """Σ_k w_k L_query(θ_k, γ_k), and the metrics after the last step."""

    def outer_loss(meta: PyTree, episode: Episode) -> tuple[Array, Metrics]:
        check_episode(episode)
        visited = trajectory(meta, episode.support)
        after = jax.tree.map(lambda x: x[1:], visited)
        at_step = jax.checkpoint(lambda adapted: measure(adapted, episode.query))
        values = jax.lax.map(at_step, after)
        last = jax.tree.map(lambda x: x[-1], values)
        return jnp.sum(weights.astype(values["loss"].dtype) * values["loss"]), last

    return outer_loss


def multi_step_weights(step: Array | int, steps: int, until: Array | float) -> Array:
    """The weights of MAML++'s multi-step loss, annealed to the last step's alone.

      w_k = max(1/K - (t/T) / K, 0.03/K) for k < K,   w_K = 1 - Σ_{k<K} w_k

    and w = (0, ..., 0, 1) from meta-step T on.

    Args:
      step: meta-steps done, t.
      steps: inner steps K.
      until: meta-steps over which to anneal, T.

    Returns:
      `float32[steps]`.

    Raises:
      InputError: if `steps` is below 1, or `until` is not positive.

    >>> print(multi_step_weights(0, 4, 100), multi_step_weights(100, 4, 100))
    [0.25 0.25 0.25 0.25] [0. 0. 0. 1.]

    Source: Antoniou et al., ICLR 2019, section 4, and the authors' code for 0.03.
    """
    check_count("steps", steps, least=1)
    if not isinstance(until, Tracer):
        check_positive("until", until)
    share = 1.0 / steps
    annealed = jnp.maximum(share * (1.0 - step / until), 0.03 * share)
    others = jnp.where(step < until, annealed, 0.0) * jnp.ones(steps - 1)
    return jnp.append(others, 1.0 - jnp.sum(others))
