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
    """MWT: a classifier of the weights that fit a signal."""

    name = "mwt"
    takes = ("labelled-fields",)
    hidden: tuple[Count, ...] = (128,)
    """MWT: widths of the classifier's hidden layers."""
    reconstruction: NotNegative = 1.0
    """MWT: weight of the loss of values beside the classifier's."""
    features: FeatureName = "weights"
    """MWT: what the classifier sees: how the weights change; the same as constants,
    so that the start is learnt from the values alone; or, as a baseline, all values of
    the signal in place of weights."""

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
