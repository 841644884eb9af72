"""Configurations of learners of fields: labelled signals, each a function of points."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from metajax import learners
from metajax.errors import InputError
from metajax.experiments.bounds import Count, NotNegative
from metajax.experiments.learners.adaptation import Setting
from metajax.experiments.learners.loops import Exact, LearntSteps
from metajax.models import mlp
from metajax.types import Batch, Learner

FeatureName = Literal["weights", "detached-weights", "values"]
FEATURES: dict[FeatureName, learners.Features] = {
    "weights": learners.weight_changes,
    "detached-weights": learners.detached_weight_changes,
    "values": learners.sorted_values,
}


@dataclass(frozen=True)
class Mwt(Exact, LearntSteps):
    """MWT: a signal is classified by the weights of a network fitted to it."""

    name = "mwt"
    takes = ("labelled-fields",)
    hidden: tuple[Count, ...] = (128,)
    """MWT: widths of the hidden layers of the classifier."""
    reconstruction: NotNegative = 1.0
    """MWT: weight of the reconstruction loss, which is added to the classifier's."""
    features: FeatureName = "weights"
    """MWT: input of the classifier: the weights' changes (weights); the changes without
    their gradient, so that only reconstruction trains the start (detached-weights); or,
    as a baseline, the values of the signal (values)."""

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner, with a perceptron for its classifier.

        Raises:
          InputError: if the classifier would see values of other points in each task.
        """
        if self.features == "values" and not setting.is_whole:
            raise InputError(
                "--inner.features values needs all pixels of each image, in one order, "
                "got some that are drawn; leave out --data.shots and --shots"
            )
        features = FEATURES[self.features]
        arguments = self.arguments(setting) | changes
        return learners.mwt(
            setting.network,
            mlp(_count(features, setting), self.hidden, setting.outputs),
            setting.loss,
            self.rate,
            steps=self.steps,
            reconstruction=self.reconstruction,
            features=features,
            **arguments,
        )


def _count(features: learners.Features, setting: Setting) -> int:
    """How many numbers the classifier sees."""

    def seen(key: jax.Array) -> jax.Array:
        params = setting.network.init(key)
        points = jnp.zeros((setting.support, *setting.input_shape))
        values = setting.network.predict(params, points)
        return features(params, params, Batch(points, values))

    return jax.eval_shape(seen, jax.random.key(0)).size
