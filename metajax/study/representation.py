"""Rapid learning or feature reuse: what adaptation does to each layer."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.errors import InputError
from metajax.gradients import exact
from metajax.study.activations import Activations, activations
from metajax.study.layers import layer_of, layers_in_use
from metajax.study.named import Named
from metajax.study.similarity import (
    Covariances,
    canonical_correlation,
    covariances,
    linear_cka,
)
from metajax.study.tasks import (
    Build,
    at,
    count_tasks,
    entry,
    of_each_task,
    per_task,
)
from metajax.types import (
    Array,
    Episode,
    GradTransform,
    Learner,
    Loss,
    Padded,
    Params,
    PyTree,
)


class Reuse(NamedTuple):
    """How alike a network's values are before and after adaptation.

    Attributes:
      layers: the names of the values along "layer".
      cka: linear CKA, `[task, layer]`; 1 for features that are used as they were.
      cca: mean canonical correlation, `[task, layer]`.
    """

    layers: tuple[str, ...]
    cka: Named
    cca: Named


def reuse(
    learner: Learner,
    meta: PyTree,
    episodes: Episode,
    *,
    values: Activations | None = None,
) -> Reuse:
    """Compares the representations of the query set before and after adaptation.

    Args:
      learner: any learner with an inner loop.
      meta: its meta-parameters.
      episodes: a meta-batch.
      values: `values(adapted, inputs) -> {name: [examples, ...]}`; what the network
        named by default, see `activations`.

    Returns:
      `Reuse`, on the host. Few query examples make everything look alike: take a
      hundred or more where features are many.

    Raises:
      InputError: if `episodes` is not a meta-batch, or its queries are padded.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid(10, 100)(jax.random.key(1), 4)
    >>> result = reuse(learner, meta, episodes)
    >>> result.layers, result.cka.values.shape
    (('block0', 'block1', 'outputs'), (4, 3))

    Source: Raghu et al., "Rapid Learning or Feature Reuse?", ICLR 2020, section 3.
    """
    count_tasks(episodes)
    if isinstance(episodes.query.inputs, Padded):
        raise InputError(
            "the query set is padded, and what is padding would make representations "
            "look alike; give episodes of one shape"
        )
    named = activations(learner.predict) if values is None else values

    def one(meta: PyTree, episode: Episode) -> dict[str, tuple[Array, Covariances]]:
        path = learner.trajectory(meta, episode.support)
        before, after = (named(entry(path, k), episode.query.inputs) for k in (0, -1))
        pairs = {name: (before[name], after[name]) for name in before}
        return {n: (linear_cka(*p), covariances(*p)) for n, p in pairs.items()}

    names: list[str] = []

    def listed(meta: PyTree, episode: Episode) -> None:
        names.extend(named(learner.adapt(meta, episode.support), episode.query.inputs))

    # Not the result's own keys: JAX sorts those of a dictionary.
    jax.eval_shape(listed, meta, entry(episodes, 0))
    result = of_each_task(one, meta, episodes)
    cka = np.stack([result[name][0] for name in names], axis=1)
    cca = np.stack([canonical_correlation(result[name][1]) for name in names], axis=1)
    return Reuse(tuple(names), per_task(cka, "layer"), per_task(cca, "layer"))


class Contributions(NamedTuple):
    """What the adaptation of each layer is worth, by a metric on the query set.

    Attributes:
      layers: the names along "layer", from the input to the output.
      before: of θ_0, `[task]`.
      after: of θ_K, `[task]`.
      alone: with this layer of θ_K and the others of θ_0, `[task, layer]`.
      without: with this layer of θ_0 and the others of θ_K, `[task, layer]`.
    """

    layers: tuple[str, ...]
    before: Named
    after: Named
    alone: Named
    without: Named


def contributions(
    learner: Learner, meta: PyTree, episodes: Episode, metric: Loss
) -> Contributions:
    """Puts layers of the adapted network into the network before, and the reverse.

    Args:
      learner: any learner with an inner loop.
      meta: its meta-parameters.
      episodes: a meta-batch.
      metric: what to judge by.

    Returns:
      `Contributions`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch.

    >>> import optax, metajax as mj
    >>> learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=2)
    >>> meta = learner.init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> contributions(learner, meta, episodes, mj.mse).alone.values.shape
    (4, 3)
    """
    count_tasks(episodes)
    score, names = at(learner, metric), _used_layers(learner, meta, episodes)

    def one(meta: PyTree, episode: Episode) -> tuple[Array, ...]:
        path = learner.trajectory(meta, episode.support)
        before, after = entry(path, 0), entry(path, -1)

        def mixed(chosen: Callable[[str], bool]) -> Array:
            def pick(where: tuple, x: Array, y: Array) -> Array:
                return y if chosen(layer_of(where)) else x

            return score(jax.tree.map_with_path(pick, before, after), episode.query)

        return (
            score(before, episode.query),
            score(after, episode.query),
            jnp.stack([mixed(lambda layer, n=n: layer == n) for n in names]),
            jnp.stack([mixed(lambda layer, n=n: layer != n) for n in names]),
        )

    before, after, alone, without = of_each_task(one, meta, episodes)
    return Contributions(
        names,
        per_task(before),
        per_task(after),
        per_task(alone, "layer"),
        per_task(without, "layer"),
    )


class Freezing(NamedTuple):
    """The metric on the query set after an inner loop that left layers as they were.

    Attributes:
      layers: the names along "layer", from the input to the output.
      none: with nothing frozen, `[task]`.
      each: with this layer frozen, `[task, layer]`.
      up_to: with this layer and all before it frozen, `[task, layer]`: the last is no
        adaptation, the one before it that of the last layer alone, as in ANIL.
    """

    layers: tuple[str, ...]
    none: Named
    each: Named
    up_to: Named


def freezing(build: Build, meta: PyTree, episodes: Episode, metric: Loss) -> Freezing:
    """Adapts with some layers frozen, and the meta-parameters as they were learnt.

    Unlike `contributions`, the other layers can make up for those that are frozen.

    Args:
      build: `build(grad) -> learner`, of an inner optimizer that leaves alone what has
        a gradient of zero, as any of optax does but for weight decay.
      meta: the meta-parameters.
      episodes: a meta-batch.
      metric: what to judge by.

    Returns:
      `Freezing`, on the host.

    Raises:
      InputError: if `episodes` is not a meta-batch, or the learner adapts a part of
        the network.

    >>> import optax, metajax as mj
    >>> def build(grad):
    ...     return mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), 2, grad=grad)
    >>> meta = build(mj.exact).init(jax.random.key(0))
    >>> episodes = mj.data.sinusoid()(jax.random.key(1), 4)
    >>> freezing(build, meta, episodes, mj.mse).up_to.values.shape
    (4, 3)

    Source: Raghu et al., ICLR 2020, section 3.2.
    """
    count_tasks(episodes)
    names = _used_layers(build(exact), meta, episodes)
    sets = [
        (),
        *((name,) for name in names),
        *(names[: i + 1] for i in range(len(names))),
    ]
    # One program for all of them: which layers move is data.
    moves = np.array([[name not in frozen for name in names] for frozen in sets])

    def one(shared: tuple[PyTree, Array], episode: Episode) -> Array:
        def scored(moving: Array) -> Array:
            grad = _only(dict(zip(names, moving)))
            learner = build(grad)
            adapted = learner.adapt(shared[0], episode.support)
            return at(learner, metric)(adapted, episode.query)

        return jax.lax.map(scored, shared[1])

    result = of_each_task(one, (meta, jnp.asarray(moves)), episodes)
    none, each, up_to = np.split(result, [1, 1 + len(names)], axis=1)
    return Freezing(
        names, per_task(none[:, 0]), per_task(each, "layer"), per_task(up_to, "layer")
    )


def _used_layers(learner: Learner, meta: PyTree, episodes: Episode) -> tuple[str, ...]:
    """The layers of what a learner adapts, as its network uses them."""
    one = entry(episodes, 0)
    adapted = jax.eval_shape(learner.adapt, meta, one.support)
    return layers_in_use(learner.predict, adapted, one.query.inputs)


def _only(moving: dict[str, Array]) -> GradTransform:
    """`exact` with the gradient of layers that do not move put to zero."""

    def transform(fun: Callable[..., Array]) -> Callable[..., Params]:
        gradient = exact(fun)

        def masked(params: Params, *args: PyTree) -> Params:
            def leaf(path: tuple, g: Array) -> Array:
                if (name := layer_of(path)) not in moving:
                    raise InputError(
                        f"the inner loop adapts {name!r}, which is no layer of what "
                        f"`adapt` returns ({', '.join(moving)}): freezing is for "
                        "learners that adapt the whole network"
                    )
                return jnp.where(moving[name], g, jnp.zeros_like(g))

            return jax.tree.map_with_path(leaf, gradient(params, *args))

        return masked

    return transform
