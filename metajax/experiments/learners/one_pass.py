"""Configurations of learners that adapt in one pass over the support set."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from metajax import learners
from metajax.experiments.bounds import Count
from metajax.experiments.learners.adaptation import Adaptation, Setting
from metajax.losses import pair_cross_entropy, score_mse
from metajax.models import comparator, dense, mlp
from metajax.models.headed import parts
from metajax.types import Array, Learner, Model


class Shapes(NamedTuple):
    """What the parts of a learner without an inner loop are made for.

    Attributes:
      features: the shape of the body's features.
      ways: the number of classes.
    """

    features: tuple[int, ...]
    ways: int


@dataclass(frozen=True)
class OnePass(Adaptation):
    """A learner that adapts in one pass over the support set, without gradients."""

    any_ways = True
    takes = ("classes",)
    makes_head = True
    factory: ClassVar[Callable[..., Learner]]

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner, on the network's body."""
        body, head = parts(setting.network, self.name)
        shapes = _shapes(body, head, setting.input_shape)
        arguments = {
            "body": body,
            "ways": shapes.ways,
            "loss": setting.loss,
            "metrics": setting.metrics,
            **self.networks(shapes, setting),
        }
        return type(self).factory(**arguments | changes)

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """What else the factory takes, such as a comparator."""
        return {}


def _shapes(body: Model, head: Model, input_shape: tuple[int, ...]) -> Shapes:
    def run(key: Array, x: Array) -> tuple[Array, Array]:
        features = body.apply(body.init(key), x)
        return features, head.apply(head.init(key), features)

    one = jnp.zeros((1, *input_shape))
    features, outputs = jax.eval_shape(run, jax.random.key(0), one)
    return Shapes(features.shape[1:], outputs.shape[1])


@dataclass(frozen=True)
class Prototypical(OnePass):
    """Prototypical networks."""

    name = "prototypical"
    factory = staticmethod(learners.prototypical)


@dataclass(frozen=True)
class Matching(OnePass):
    """Matching networks."""

    name = "matching"
    factory = staticmethod(learners.matching)


@dataclass(frozen=True)
class Relation(OnePass):
    """Relation networks: a learnt comparator of features."""

    name = "relation"
    loss = staticmethod(score_mse)
    logits = False
    fewer_ways = False
    factory = staticmethod(learners.relation)

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """A comparator: convolutions of maps, or layers of features."""
        *size, channels = shapes.features
        if len(size) != 2:
            return {"comparator": mlp(2 * channels, (8,), 1)}
        height, width = size
        shape = height, width, 2 * channels
        compare = comparator(shape, filters=channels, norm=setting.norm)
        return {"comparator": compare}


@dataclass(frozen=True)
class Siamese(OnePass):
    """Siamese networks: a learnt distance of features, trained on pairs."""

    name = "siamese"
    loss = staticmethod(pair_cross_entropy)
    logits = False
    fewer_ways = False
    factory = staticmethod(learners.siamese)

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """One layer of the features' distance."""
        return {"comparator": dense(math.prod(shapes.features), 1)}


@dataclass(frozen=True)
class R2D2(OnePass):
    """R2D2: a ridge regression on features, in closed form."""

    name = "r2d2"
    factory = staticmethod(learners.r2d2)


@dataclass(frozen=True)
class LrD2(OnePass):
    """LR-D2: a logistic regression on features, by Newton's method."""

    name = "lr-d2"
    factory = staticmethod(learners.lr_d2)


@dataclass(frozen=True)
class MetaOptNet(OnePass):
    """MetaOptNet: a linear support vector machine on features."""

    name = "meta-opt-net"
    fewer_ways = False
    factory = staticmethod(learners.meta_opt_net)


@dataclass(frozen=True)
class NeuralProcess(OnePass):
    """A conditional neural process of features and labels."""

    name = "neural-process"
    any_ways = False
    factory = staticmethod(learners.neural_process)
    codes: Count = 128
    """Neural process: width of the hidden layers, and size of each class's code (at
    most the number of features)."""

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """An encoder of examples and a decoder of queries."""
        features = math.prod(shapes.features)
        codes = min(features, self.codes)
        joined = features + shapes.ways * codes
        return {
            "encoder": mlp(features, (self.codes,), codes),
            "decoder": mlp(joined, (self.codes,), shapes.ways),
        }


@dataclass(frozen=True)
class Mann(OnePass):
    """A memory-augmented neural network, which reads the support set in order."""

    name = "mann"
    any_ways = False
    in_order = True
    factory = staticmethod(learners.mann)

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """The number of features."""
        return {"features": math.prod(shapes.features)}


@dataclass(frozen=True)
class Snail(OnePass):
    """SNAIL: temporal convolutions and attention over the support set in order."""

    name = "snail"
    any_ways = False
    any_shots = False
    in_order = True
    factory = staticmethod(learners.snail)

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """The number of features, and the length: the support set and a query."""
        features = math.prod(shapes.features)
        return {"features": features, "length": setting.support + 1}
