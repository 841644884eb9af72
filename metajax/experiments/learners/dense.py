"""Configurations of learners of segmentation and of detection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax import learners
from metajax.experiments.bounds import Count, CountOrZero, NotNegative, Positive
from metajax.experiments.learners.adaptation import Adaptation, Setting
from metajax.models import pixel_head
from metajax.models.headed import parts
from metajax.types import Learner, Model


class BodyMaps(NamedTuple):
    """What a body makes of an image.

    Attributes:
      body: the body.
      stride: pixels of an image for each place of its maps, along an axis.
      channels: of its maps.
    """

    body: Model
    stride: int
    channels: int


def body_maps(setting: Setting, learner: str) -> BodyMaps:
    """The body of a setting's network, and the form of its maps.

    Raises:
      InputError: if the network does not know its body.
    """
    body, _ = parts(setting.network, learner)
    _, rows, _, channels = shapes(body, setting).shape
    return BodyMaps(body, setting.input_shape[0] // rows, channels)


def shapes(model: Model, setting: Setting) -> Any:
    """What a model makes of one input, abstract."""
    one = jnp.zeros((1, *setting.input_shape))
    return jax.eval_shape(lambda k: model.apply(model.init(k), one), jax.random.key(0))


@dataclass(frozen=True)
class DenseOnePass(Adaptation):
    """A learner of the places of images, without an inner loop."""

    any_ways = True
    makes_head = True
    fewer_ways = False
    factory: ClassVar[Callable[..., Learner]]

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """What the factory takes by name."""
        return {"loss": setting.loss, "metrics": setting.metrics}

    def build(self, setting: Setting, **changes: Any) -> Learner:
        """The learner, on the network's body."""
        return type(self).factory(**self.arguments(setting) | changes)


@dataclass(frozen=True)
class PrototypicalSegmenter(DenseOnePass):
    """Prototypical segmentation: the cosine to each class's mean features (PANet)."""

    name = "prototypical-segmenter"
    takes = ("masks",)
    factory = staticmethod(learners.prototypical_segmenter)
    scale: Positive = 20.0
    """Prototypical segmentation: fixed scale of the cosines."""
    alignment: NotNegative = 1.0
    """Prototypical segmentation: weight of PANet's alignment loss, of the support set
    labelled by the queries."""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the body and the two weights."""
        return super().arguments(setting) | {
            "body": body_maps(setting, self.name).body,
            "ways": setting.outputs - 1,
            "scale": self.scale,
            "alignment": self.alignment,
        }


@dataclass(frozen=True)
class SiameseSegmenter(DenseOnePass):
    """Siamese U-Net: masks decoded from how well an image matches the support set."""

    name = "siamese-segmenter"
    takes = ("masks",)
    factory = staticmethod(learners.siamese_segmenter)

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the body, and a head of one logit a pixel."""
        body, stride, channels = body_maps(setting, self.name)
        return super().arguments(setting) | {
            "body": body,
            "head": pixel_head(channels, 1, patch=stride),
            "ways": setting.outputs - 1,
        }


@dataclass(frozen=True)
class CorrelationSegmenter(SiameseSegmenter):
    """Correlation segmentation: cosines to class means at several levels."""

    name = "correlation-segmenter"
    factory = staticmethod(learners.correlation_segmenter)
    features: Count = 64
    """Correlation segmentation: number of features that are compared at each level."""
    scale: Positive = 4.0
    """Correlation segmentation: initial scale of each level's cosines, which is
    learnt."""
    colour: NotNegative = 0.0
    """Correlation segmentation: how strictly a pixel must match the colour of the
    object found in its image, for objects of one colour each, such as characters; it
    has no effect in training."""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the features of each level."""
        body, _, channels = body_maps(setting, self.name)
        encoder, _ = parts(body, self.name)
        coarser = [x.shape[-1] for x in shapes(encoder, setting)[1:]]
        return super().arguments(setting) | {
            "channels": (channels, *coarser),
            "features": self.features,
            "scale": self.scale,
            "colour": self.colour,
        }


@dataclass(frozen=True)
class CorrelationDetector(DenseOnePass):
    """Correlation detector: cosines to the mean features of each class's objects."""

    name = "correlation-detector"
    takes = ("boxes",)
    factory = staticmethod(learners.correlation_detector)
    filters: Count = 64
    """Detectors: features of the head that locates objects."""
    scale: Positive = 10.0
    """Detectors: initial scale of the cosines, which is learnt."""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With those of the head and the maps."""
        body, stride, channels = body_maps(setting, self.name)
        return super().arguments(setting) | {
            "body": body,
            "ways": setting.outputs,
            "stride": stride,
            "channels": channels,
            "filters": self.filters,
            "scale": self.scale,
        }


@dataclass(frozen=True)
class FineTunedDetector(CorrelationDetector):
    """Two-stage fine-tuning (TFA): a cosine head on a frozen detector."""

    name = "fine-tuned-detector"
    factory = staticmethod(learners.fine_tuned_detector)
    scale: Positive = 20.0
    """Fine-tuned detector: fixed scale of the cosines."""
    head_rate: Positive = 0.1
    """Fine-tuned detector: learning rate for fitting the head of a task."""
    head_steps: CountOrZero = 20
    """Fine-tuned detector: gradient steps for fitting the head of a task."""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the optimizer of a task's head."""
        return super().arguments(setting) | {
            "optimizer": optax.sgd(self.head_rate),
            "steps": self.head_steps,
        }
