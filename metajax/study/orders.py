"""The exact meta-gradient against the first-order one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.checks import check_count
from metajax.gradients import exact, first_order
from metajax.study.layers import (
    ALL,
    cosines,
    difference,
    layer_names,
    norms,
    products,
)
from metajax.study.named import Named
from metajax.study.tasks import (
    Build,
    count_tasks,
    mean_of_tasks,
    of_each_task,
    path_length,
)
from metajax.types import Array, Episode, GradTransform, Learner, Params, PyTree

BuildAt = Callable[[GradTransform, int, Array], Learner]
"""A learner by inner gradient, inner steps and inner rate, which is traced, such as
`lambda grad, k, rate: metajax.maml(model, loss, optax.sgd(rate), k, grad=grad)`."""


class Orders(NamedTuple):
    """The exact meta-gradient of each task and the first-order one, by layer.

    Every array is `[steps, rate, task, layer]`.

    Attributes:
      layers: the names along the axis "layer", the last of them "all".
      steps: the numbers of inner steps along "steps".
      rates: the inner rates along "rate".
      exact: ‖g‖ of the exact gradient.
      first_order: ‖g₁‖ of the first-order one.
      second_order: ‖g - g₁‖, what passes through the Hessians.
      cosine: between g and g₁.
    """

    layers: tuple[str, ...]
    steps: tuple[int, ...]
    rates: np.ndarray
    exact: Named
    first_order: Named
    second_order: Named
    cosine: Named


def orders(
    build: BuildAt,
    meta: PyTree,
    episodes: Episode,
    *,
    steps: Sequence[int],
    rates: Sequence[float],
) -> Orders:
    """Compares the two meta-gradients over inner steps and inner rates.

      g = ∇_θ L_query(θ_K),   g₁ = the same with every inner gradient held constant

    Args:
      build: `build(grad, steps, rate) -> learner`; see `BuildAt`.
      meta: the meta-parameters, of all these learners.
      episodes: a meta-batch.
      steps: numbers of inner steps, each compiled by itself.
      rates: inner rates.

    Returns:
      `Orders`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch, or there are no steps or rates.

    >>> import optax, metajax as mj
    >>> def build(grad, steps, rate):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(rate), steps, grad=grad)
    >>> meta = build(mj.exact, 1, 0.01).init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> result = orders(build, meta, episodes, steps=(1, 2), rates=(0.01, 0.1))
    >>> result.cosine.axes, result.cosine.values.shape
    (('steps', 'rate', 'task', 'layer'), (2, 2, 4, 4))

    Source: Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, section 5.2.
    """
    count_tasks(episodes)
    for name, values in (("steps", steps), ("rates", rates)):
        check_count(f"the number of {name}", len(values), least=1)
    tried = jnp.asarray(rates, float)

    def one(shared: tuple[PyTree, Array], episode: Episode, count: int) -> tuple:
        def at_rate(rate: Array) -> tuple[Array, ...]:
            def gradient(grad: GradTransform) -> Params:
                learner = build(grad, count, rate)
                return jax.grad(learner.loss, has_aux=True)(shared[0], episode)[0]

            return _compared(gradient(exact), gradient(first_order))

        return jax.lax.map(at_rate, shared[1])

    result = [
        of_each_task(lambda s, e, k=k: one(s, e, k), (meta, tried), episodes)
        for k in steps
    ]
    axes = ("steps", "rate", "task", "layer")
    arrays = (Named(np.stack(x).swapaxes(1, 2), axes) for x in zip(*result))
    return Orders((*layer_names(meta), ALL), tuple(steps), np.asarray(tried), *arrays)


class Expansion(NamedTuple):
    """The exact meta-gradient as a sum over orders of Hessian products.

    Attributes:
      layers: the names along the axis "layer", the last of them "all".
      norm: ‖G_j‖, `[order, layer]`; order 0 is the first-order gradient.
      cosine: between G_0 + ... + G_j and the exact gradient, `[order, layer]`.
      residual: ‖Σ_j G_j - g‖ / ‖g‖, over all layers: that the sum is the gradient.
      floor: what rounding may make of ‖G_j‖ over all layers, `[order]`: a term of that
        size may be nothing else.
    """

    layers: tuple[str, ...]
    norm: Named
    cosine: Named
    residual: float
    floor: Named


def expansion(build: Build, meta: PyTree, episodes: Episode) -> Expansion:
    """Expands the meta-gradient in the number of Hessians that a term passes through.

      g = Π_k (I - α H_k) ∇L_query(θ_K) = Σ_j G_j,
      G_j = (-α)^j Σ_{k_1 < ... < k_j} H_{k_1} ... H_{k_j} ∇L_query(θ_K)

    With the derivative of every inner gradient scaled by ε, the meta-gradient is the
    polynomial Σ_j ε^j G_j, and the G_j follow from its values at K + 1 points: for any
    inner optimizer, though the second line is that of plain gradient steps.

    Args:
      build: `build(grad) -> learner`, of K inner steps. Rounding grows with K, most in
        the terms of high order: see `Expansion.floor`.
      meta: the meta-parameters.
      episodes: a meta-batch, over which the gradients are averaged.

    Returns:
      `Expansion`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch.

    >>> import optax, metajax as mj
    >>> def build(grad):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), 3, grad=grad)
    >>> meta = build(mj.exact).init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> result = expansion(build, meta, episodes)
    >>> result.norm.axes, result.norm.values.shape, result.residual < 1e-4
    (('order', 'layer'), (4, 4), True)
    """
    count_tasks(episodes)
    length = path_length(build(exact), meta, episodes)
    nodes = np.cos(np.pi * (np.arange(length) + 0.5) / length)  # Chebyshev's
    inverse = np.linalg.inv(np.vander(nodes, increasing=True))

    def one(shared: tuple[PyTree, Array], episode: Episode) -> tuple[Params, Params]:
        def gradient(grad: GradTransform) -> Params:
            outer = jax.grad(build(grad).loss, has_aux=True)
            return outer(shared[0], episode)[0]

        shares = jax.lax.map(lambda share: gradient(scaled(share)), shared[1])
        return shares, gradient(exact)

    values, whole = mean_of_tasks(one, (meta, jnp.asarray(nodes, float)), episodes)
    terms = jax.tree.map(lambda x: np.tensordot(inverse, x, 1).astype(x.dtype), values)
    sums = jax.tree.map(lambda x: np.cumsum(x, axis=0), terms)
    size, partial = norms(whole), jax.vmap(norms)(sums)
    turned = jax.vmap(lambda part: products(part, whole))(sums)
    rest = norms(difference(jax.tree.map(lambda x: x[-1], sums), whole))
    axes = ("order", "layer")
    rounded = max(np.finfo(x.dtype).eps for x in jax.tree.leaves(values))
    of_each = np.asarray(jax.vmap(norms)(values))[:, -1]
    return Expansion(
        (*layer_names(meta), ALL),
        Named(np.asarray(jax.vmap(norms)(terms)), axes),
        Named(np.asarray(cosines(turned, partial, size[None])), axes),
        float(rest[-1] / size[-1]),
        Named(rounded * np.abs(inverse) @ of_each, ("order",)),
    )


def scaled(share: Array | float) -> GradTransform:
    """`exact`, with its own derivative times `share`: 0 for first order, 1 for exact.

    >>> float(jax.grad(scaled(0.5)(lambda x: x**3))(2.0))
    6.0
    """

    def transform(fun: Callable[..., Array]) -> Callable[..., Params]:
        gradient = exact(fun)

        def held(x: Array) -> Array:
            constant = jax.lax.stop_gradient(x)
            return constant + jnp.asarray(share, x.dtype) * (x - constant)

        return lambda *args: jax.tree.map(held, gradient(*args))

    return transform


def _compared(whole: Params, first: Params) -> tuple[Array, ...]:
    """Norms of both and of their difference, and the cosine, by layer."""
    sizes = norms(whole), norms(first)
    turned = cosines(products(whole, first), *sizes)
    return *sizes, norms(difference(whole, first)), turned
