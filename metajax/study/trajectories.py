"""What happens in the inner loop, step by step and layer by layer."""

from typing import NamedTuple

import jax

from metajax.study.layers import (
    ALL,
    cosines,
    difference,
    layer_names,
    norms,
    products,
)
from metajax.study.named import Named
from metajax.study.tasks import at, entry, of_each_task, per_task
from metajax.types import Array, Episode, Learner, Loss, PyTree


class Trajectories(NamedTuple):
    """The way of each task through the inner loop, θ_0, ..., θ_K.

    Attributes:
      layers: the names along the axis "layer", the last of them "all".
      support_loss: of θ_k, `[task, step]`, as are the next three.
      query_loss: of θ_k on the query set.
      support_score: the metric of θ_k on the support set.
      query_score: the same on the query set.
      gradient_norm: ‖g_k‖ of the support loss at θ_k, `[task, step, layer]`.
      distance: ‖θ_k - θ_0‖, `[task, step, layer]`.
      step_norm: ‖θ_{k+1} - θ_k‖, `[task, step, layer]`, one step fewer.
      cosine: between g_k and g_{k+1}, likewise; 0 where one is zero.
    """

    layers: tuple[str, ...]
    support_loss: Named
    query_loss: Named
    support_score: Named
    query_score: Named
    gradient_norm: Named
    distance: Named
    step_norm: Named
    cosine: Named


def trajectories(
    learner: Learner, meta: PyTree, episodes: Episode, loss: Loss, metric: Loss
) -> Trajectories:
    """Follows the inner loop of every task.

      g_k = ∇_θ L_support(θ_k),   cos_k = ⟨g_k, g_{k+1}⟩ / (‖g_k‖ ‖g_{k+1}‖)

    The gradient is taken with respect to all that `predict` uses, so a layer that the
    learner leaves alone has a gradient too, and steps of 0.

    Args:
      learner: any learner; to look past the steps that it was trained for, build it
        with more: the meta-parameters are the same.
      meta: its meta-parameters.
      episodes: a meta-batch.
      loss: what the inner loop descends.
      metric: what to judge by: `metajax.accuracy`, `metajax.mse`.

    Returns:
      `Trajectories`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> result = trajectories(learner, meta, episodes, mj.mse, mj.mse)
    >>> result.layers, result.gradient_norm.axes, result.gradient_norm.values.shape
    (('body/0', 'body/1', 'head', 'all'), ('task', 'step', 'layer'), (4, 3, 4))
    """
    value, score = at(learner, loss), at(learner, metric)

    def one(meta: PyTree, episode: Episode) -> tuple[Array, ...]:
        support, query = episode
        path = learner.trajectory(meta, support)
        start = entry(path, 0)

        def there(adapted: PyTree):
            support_loss, gradient = jax.value_and_grad(value)(adapted, support)
            scores = score(adapted, support), score(adapted, query)
            return (support_loss, value(adapted, query), *scores), gradient

        scores, gradients = jax.lax.map(there, path)
        sizes = jax.vmap(norms)(gradients)
        turned = jax.vmap(products)(*_successive(gradients))
        return (
            *scores,
            sizes,
            jax.vmap(lambda x: norms(difference(x, start)))(path),
            jax.vmap(norms)(difference(*_successive(path))),
            cosines(turned, sizes[:-1], sizes[1:]),
        )

    result = of_each_task(one, meta, episodes)
    curves = (per_task(x, "step") for x in result[:4])
    by_layer = (per_task(x, "step", "layer") for x in result[4:])
    names = (*adapted_layers(learner, meta, episodes), ALL)
    return Trajectories(names, *curves, *by_layer)


def adapted_layers(
    learner: Learner, meta: PyTree, episodes: Episode
) -> tuple[str, ...]:
    """The layers of what a learner adapts."""
    support = entry(episodes.support, 0)
    return layer_names(jax.eval_shape(learner.adapt, meta, support))


def _successive(stack: PyTree) -> tuple[PyTree, PyTree]:
    """All but the last along the leading axis, and all but the first."""
    return entry(stack, slice(None, -1)), entry(stack, slice(1, None))
