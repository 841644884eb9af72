"""MAML++: each inner step with rates, batch norm and a loss of its own."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from metajax._pytrees.constant import learnt
from metajax.checks import check_episode
from metajax.gradients import exact
from metajax.inner import View, whole
from metajax.learners.choice import Chosen, joined, scale_or_offset, where
from metajax.learners.inner_optimizer import InnerOptimizer, check_inner
from metajax.learners.problem import Problem, measured, of, settling, solver
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
    per_step: Chosen = scale_or_offset,
    grad: GradTransform = exact,
    view: View = whole,
    metrics: Mapping[str, Loss] | None = None,
) -> Learner:
    """MAML++, each part of it apart.

      θ_{k+1} = θ_k - α_k ∘ ∇L_support(θ_k, γ_k)
      min_{θ,γ,α} Σ_i Σ_k w_k L_query(θ_k, γ_k)

    - α, a rate for each array and step: `inner=step_rates(0.1, steps)`;
    - γ, batch norm's scale and offset for each number of steps taken, learnt outside
      and left alone inside: `per_step`;
    - w, the multi-step loss: `step_weights`, from `multi_step_weights`;
    - first-order gradients at the start of training: `switch`;
    - the outer rate's cosine: `optax.cosine_decay_schedule`.

    With `fixed(optax.sgd(rate))`, `per_step=nothing` and no `step_weights` it is
    `metajax.maml`. Batch norm's statistics are the current batch's in every step, as in
    the authors' code, which keeps running ones a step and then does not use them.

    Args:
      model: the network.
      loss: see `metajax.maml`.
      inner: the inner optimizer and what of it is learnt.
      steps: inner steps K.
      step_weights: w_1, ..., w_K, `float[steps]`; the last step's loss alone by
        default.
      per_step: of which arrays each step has its own, by their path in the tree of
        parameters as `jax.tree_util.keystr` writes it. Steps after the last take the
        last one's.
      grad: see `metajax.maml`.
      view: see `metajax.maml`.
      metrics: see `metajax.maml`.

    Returns:
      A `Learner` whose meta-parameters are `{"params": θ, "per_step": γ, "inner": α}`.

    Raises:
      InputError: if `inner` is an optimizer of optax, or `steps` is not a whole number
        of at least 0.

    >>> import metajax as mj
    >>> inner = mj.learners.step_rates(0.1, steps=2)
    >>> model = mj.conv4(5, 8, image_shape=(16, 16, 1))
    >>> learner = maml_plus_plus(model, mj.cross_entropy, inner, steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> meta["per_step"]["body"][0]["scale"].shape
    (3, 8)

    Source: Antoniou et al., "How to Train Your MAML", ICLR 2019.
    """
    check_inner(inner)
    value = of(model, loss)

    def init(key: Array) -> PyTree:
        params_key, inner_key = jax.random.split(key)
        params = model.init(params_key)
        own = where(per_step, params)
        shared = jax.tree.map(lambda x, o: None if o else x, params, own)
        stacked = jax.tree.map(
            lambda x, o: jnp.stack([x] * (steps + 1)) if o else None, params, own
        )
        rule = inner.init(inner_key, learnt(shared))
        return {"params": shared, "per_step": stacked, "inner": rule}

    def pose(meta: PyTree, support: Batch) -> Problem:
        def finish(params: Params, step: Array | int) -> Params:
            own = jax.tree.map(
                lambda x: x[jnp.minimum(step, len(x) - 1)], meta["per_step"]
            )
            return joined(params, own)

        def value_at(params: Params, seen: tuple[Batch, Array]) -> Array:
            batch, step = seen
            return value(finish(params, step), batch)

        optimizer = inner.build(meta["inner"])
        return Problem(value_at, optimizer, meta["params"], support, finish)

    def numbered(batch: Batch, step: Array) -> tuple[Batch, Array]:
        return view(batch, step), step

    adapt, trajectory = settling(model, *solver(pose, steps, grad=grad, view=numbered))

    measure = measured(model.forward, loss, metrics)

    def outer_loss(meta: PyTree, episode: Episode) -> tuple[Array, Metrics]:
        check_episode(episode)
        if step_weights is None:
            values = measure(adapt(meta, episode.support), episode.query)
            return values["loss"], values
        visited = trajectory(meta, episode.support)
        after = jax.tree.map(lambda x: x[1:], visited)
        each = jax.checkpoint(lambda adapted: measure(adapted, episode.query))
        values = jax.lax.map(each, after)
        last = jax.tree.map(lambda x: x[-1], values)
        return jnp.sum(step_weights * values["loss"]), last

    return Learner(init, adapt, model.predict, outer_loss, trajectory)


def multi_step_weights(step: Array | int, steps: int, until: int) -> Array:
    """The weights of MAML++'s multi-step loss, annealed to the last step's alone.

      w_k = max(1/K - (t/T) / K, 0.03/K) for k < K,   w_K = 1 - Σ_{k<K} w_k

    and w = (0, ..., 0, 1) from meta-step T on.

    Args:
      step: meta-steps done, t.
      steps: inner steps K.
      until: meta-steps over which to anneal, T.

    Returns:
      `float32[steps]`.

    >>> print(multi_step_weights(0, 4, 100), multi_step_weights(100, 4, 100))
    [0.25 0.25 0.25 0.25] [0. 0. 0. 1.]

    Source: Antoniou et al., ICLR 2019, section 4, and the authors' code for 0.03.
    """
    share = 1.0 / steps
    annealed = jnp.maximum(share * (1.0 - step / until), 0.03 * share)
    others = jnp.where(step < until, annealed, 0.0) * jnp.ones(steps - 1)
    return jnp.append(others, 1.0 - jnp.sum(others))
