"""Which learners there are, and how each is built from a configuration."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax import learners
from metajax.data import augmented, shuffle_support
from metajax.errors import InputError
from metajax.experiments.backbone import read_body
from metajax.experiments.presets import Inner, LearnerName
from metajax.gradients import first_order
from metajax.inner import View, adam, whole
from metajax.learners import InnerOptimizer, curvature, parameter_rates, step_rates
from metajax.losses import pair_cross_entropy, score_mse
from metajax.models import comparator, dense, mlp
from metajax.models.headed import parts
from metajax.models.norms import NormName
from metajax.types import Array, Learner, Loss, Model, Sampler

INNER = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": adam,
    "adam-b1-0": lambda rate: adam(rate, b1=0.0),
}


class Terms(NamedTuple):
    """What a learner is built on, beside its network.

    Attributes:
      inner: of the configuration.
      input_shape: of an input.
      support: the most examples of a support set.
      norm: what the network normalises by.
    """

    inner: Inner
    input_shape: tuple[int, ...]
    support: int
    norm: NormName


def by_optimizer(factory: Callable[..., Learner]) -> Callable[..., Learner]:
    """A factory that takes an inner optimizer, as one that takes a configuration."""

    def build(model: Model, loss: Loss, terms: Terms, *args, **settings) -> Learner:
        optimizer = INNER[terms.inner.optimizer](terms.inner.rate)
        return factory(model, loss, optimizer, *args, **settings)

    return build


def by_rule(
    factory: Callable[..., Learner], rule: Callable[[float, int], InnerOptimizer]
) -> Callable[..., Learner]:
    """A factory that takes a learnt inner optimizer `rule(rate, steps)`, likewise."""

    def build(
        model: Model, loss: Loss, terms: Terms, steps: int, **settings
    ) -> Learner:
        inner = terms.inner
        if inner.optimizer != "sgd":
            raise InputError(
                "--inner.optimizer must be sgd for a learner that learns its own, got "
                f"{inner.optimizer}"
            )
        return factory(model, loss, rule(inner.rate, steps), steps, **settings)

    return build


def imaml(model: Model, loss: Loss, terms: Terms, *args, **settings) -> Learner:
    """IMAML of a configuration."""
    strength, damping = terms.inner.strength, terms.inner.damping
    build = by_optimizer(partial(learners.imaml, strength=strength, damping=damping))
    return build(model, loss, terms, *args, **settings)


def mtl(model: Model, loss: Loss, terms: Terms, *args, **settings) -> Learner:
    """Meta-transfer learning of a configuration."""
    backbone = terms.inner.backbone
    path = None if backbone is None else Path(backbone)
    body, _ = parts(model, "mtl")
    build = by_optimizer(partial(learners.mtl, backbone=read_body(path, body)))
    return build(model, loss, terms, *args, **settings)


class Shapes(NamedTuple):
    """What a learner without an inner loop is built for.

    Attributes:
      features: the shape of the body's features.
      ways: the number of classes.
      terms: what else it is built on.
    """

    features: tuple[int, ...]
    ways: int
    terms: Terms


def nothing_more(shapes: Shapes) -> dict[str, Any]:
    """A body and ways are enough."""
    del shapes
    return {}


def of_body(
    factory: Callable[..., Learner],
    more: Callable[[Shapes], Mapping[str, Any]] = nothing_more,
) -> Callable[..., Learner]:
    """A factory of a body and a number of ways, and of no inner loop, likewise.

    Some take `more(shapes)` too.
    """

    def build(
        model: Model,
        loss: Loss,
        terms: Terms,
        steps: int,
        *,
        view: View,
        metrics: Mapping[str, Loss],
    ) -> Learner:
        del steps
        if view is not whole:
            raise InputError(
                "--inner.batch is not for a learner without an inner loop; leave it out"
            )
        body, head = parts(model, "this learner")
        shapes = _shapes(body, head, terms)
        settings = more(shapes)
        return factory(
            body=body, ways=shapes.ways, loss=loss, metrics=metrics, **settings
        )

    return build


def _shapes(body: Model, head: Model, terms: Terms) -> Shapes:
    def run(key: Array, x: Array) -> tuple[Array, Array]:
        features = body.apply(body.init(key), x)
        return features, head.apply(head.init(key), features)

    one = jnp.zeros((1, *terms.input_shape))
    features, outputs = jax.eval_shape(run, jax.random.key(0), one)
    return Shapes(features.shape[1:], outputs.shape[1], terms)


def with_comparator(shapes: Shapes) -> dict[str, Any]:
    """A relation network's: convolutions of maps, or layers of features."""
    *size, channels = shapes.features
    if len(size) == 2:
        height, width = size
        shape = height, width, 2 * channels
        compare = comparator(shape, filters=channels, norm=shapes.terms.norm)
    else:
        compare = mlp(2 * channels, (8,), 1)
    return {"comparator": compare}


def with_layer(shapes: Shapes) -> dict[str, Any]:
    """A siamese network's comparator."""
    return {"comparator": dense(math.prod(shapes.features), 1)}


def with_features(shapes: Shapes) -> dict[str, Any]:
    """How many there are."""
    return {"features": math.prod(shapes.features)}


def with_length(shapes: Shapes) -> dict[str, Any]:
    """How many there are, and how long a sequence is: the support set and a query."""
    return with_features(shapes) | {"length": shapes.terms.support + 1}


def with_networks(shapes: Shapes) -> dict[str, Any]:
    """A neural process's, with as many codes a class as there are features, at most."""
    features = math.prod(shapes.features)
    codes = min(features, CODES)
    joined = features + shapes.ways * codes
    return {
        "encoder": mlp(features, (CODES,), codes),
        "decoder": mlp(joined, (CODES,), shapes.ways),
    }


def as_drawn(episodes: Sampler) -> Sampler:
    """Episodes as they are."""
    return episodes


def shuffled(episodes: Sampler) -> Sampler:
    """Episodes for learners that read the support set in its order."""
    return augmented(episodes, shuffle_support)


class Choice(NamedTuple):
    """How a learner is built.

    Attributes:
      build: `build(model, loss, terms, steps, view=..., metrics=...) -> learner`.
      context: features, or channels, that it adds to the model's inputs.
      changes: what of it may be changed: in training, by a file, or to study it.
      loss: what takes the place of the mean cross-entropy.
      fewer_ways: whether it may be trained on tasks of fewer ways, padded.
      any_ways: whether it may be trained at other ways than it is tested at.
      steps: whether it has an inner loop.
      starts_head: whether a network's own head is where it starts.
      beside: whether a query alone needs the support set beside itself, as its network
        cannot settle on that.
      episodes: `episodes(sampler) -> sampler`, what it is trained and tested on.
    """

    build: Callable[..., Learner]
    context: int = 0
    changes: tuple[str, ...] = ("grad", "rate")
    loss: Loss | None = None
    fewer_ways: bool = True
    any_ways: bool = False
    steps: bool = True
    starts_head: bool = True
    beside: bool = False
    episodes: Callable[[Sampler], Sampler] = as_drawn


def at_once(
    factory: Callable[..., Learner],
    more: Callable[[Shapes], Mapping[str, Any]] = nothing_more,
    loss: Loss | None = None,
    *,
    fewer_ways: bool = True,
) -> Choice:
    """The choice of a learner without an inner loop, of any ways."""
    return Choice(
        of_body(factory, more),
        changes=(),
        loss=loss,
        fewer_ways=fewer_ways,
        any_ways=True,
        steps=False,
        starts_head=False,
    )


def in_order(
    factory: Callable[..., Learner], more: Callable[[Shapes], Mapping[str, Any]]
) -> Choice:
    """The choice of one that reads the support set in its order, of its own ways."""
    return at_once(factory, more)._replace(any_ways=False, episodes=shuffled)


CODES = 128  # of a neural process
CONTEXT = 5  # CAVIA's parameters, as in its paper's sine waves
first_order_rule = partial(learners.learned_maml, grad=first_order)
LEARNERS: dict[LearnerName, Choice] = {
    "maml": Choice(by_optimizer(learners.maml)),
    "fomaml": Choice(by_optimizer(learners.fomaml), changes=("rate",)),
    "anil": Choice(by_optimizer(learners.anil)),
    "boil": Choice(by_optimizer(learners.boil)),
    "reptile": Choice(by_optimizer(learners.reptile), changes=("rate",)),
    "proto-maml": Choice(
        by_optimizer(learners.proto_maml), any_ways=True, starts_head=False
    ),
    "imaml": Choice(imaml, changes=("rate",)),
    "cavia": Choice(by_optimizer(partial(learners.cavia, context=CONTEXT)), CONTEXT),
    "meta-sgd": Choice(
        by_rule(learners.learned_maml, lambda rate, _: parameter_rates(rate)),
        changes=("grad",),
    ),
    "meta-curvature": Choice(
        by_rule(learners.learned_maml, lambda rate, _: curvature(rate)),
        changes=("grad",),
    ),
    # First-order, as in their papers.
    "meta-lstm": Choice(
        by_rule(first_order_rule, lambda rate, _: learners.meta_lstm(rate)), changes=()
    ),
    "learned-optimizer": Choice(
        by_rule(
            first_order_rule, lambda rate, _: learners.learned_optimizer(scale=rate)
        ),
        changes=(),
    ),
    "maml++": Choice(
        by_rule(learners.maml_plus_plus, lambda rate, k: step_rates(rate, max(1, k))),
        changes=("grad", "step_weights"),
    ),
    "mtl": Choice(mtl, changes=("grad", "rate", "backbone"), beside=True),
    "prototypical": at_once(learners.prototypical),
    "matching": at_once(learners.matching),
    "relation": at_once(
        learners.relation, with_comparator, score_mse, fewer_ways=False
    ),
    "siamese": at_once(
        learners.siamese, with_layer, pair_cross_entropy, fewer_ways=False
    ),
    "r2d2": at_once(learners.r2d2),
    "lr-d2": at_once(learners.lr_d2),
    "meta-opt-net": at_once(learners.meta_opt_net, fewer_ways=False),
    "neural-process": at_once(learners.neural_process, with_networks)._replace(
        any_ways=False
    ),
    "mann": in_order(learners.mann, with_features),
    "snail": in_order(learners.snail, with_length),
}
