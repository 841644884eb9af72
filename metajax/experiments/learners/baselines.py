"""Configurations of baselines, which stand on a body of `metajax pretrain`."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from metajax import learners
from metajax.experiments.augmenting import jitter_of
from metajax.experiments.backbone import read_mean
from metajax.experiments.bounds import CountOrZero, Positive, Share
from metajax.experiments.learners.adaptation import Setting
from metajax.experiments.learners.loops import InnerLoop
from metajax.experiments.learners.on_backbone import PretrainedStart
from metajax.experiments.learners.one_pass import OnePass, Shapes

STEPPING = "rate", "steps", "optimizer", "batch"


@dataclass(frozen=True)
class Baseline(PretrainedStart, InnerLoop):
    """Baseline: a linear head is fine-tuned on a frozen, pre-trained body."""

    name = "baseline"
    takes = ("classes",)
    any_ways = True
    makes_head = True
    trained = False
    not_inherited = STEPPING
    factory = staticmethod(learners.baseline)
    rate: Positive = 0.05
    """Learning rate for fitting the head of a task."""
    steps: CountOrZero = 10
    """Gradient steps for fitting the head of a task; an evaluation predicts after
    each."""


@dataclass(frozen=True)
class BaselinePlusPlus(Baseline):
    """Baseline++: a cosine head is fine-tuned on a frozen, pre-trained body."""

    name = "baseline++"
    not_inherited = *STEPPING, "scale"
    factory = staticmethod(learners.baseline_plus_plus)
    rate: Positive = 0.5
    """Learning rate for fitting the head of a task."""
    scale: Positive = 2.0
    """Baseline++: fixed scale of the cosines."""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the scale."""
        return super().arguments(setting) | {"scale": self.scale}


@dataclass(frozen=True)
class MetaBaseline(PretrainedStart, OnePass):
    """Meta-Baseline: cosines to class means, on a pre-trained body."""

    name = "meta-baseline"
    needs_backbone = False
    factory = staticmethod(learners.meta_baseline)
    scale: Positive = 10.0
    """Meta-Baseline: initial scale of the cosines, which is learnt."""

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """The scale."""
        return {"scale": self.scale}


@dataclass(frozen=True)
class SimpleShot(PretrainedStart, OnePass):
    """SimpleShot: the nearest centroid of centred features, on a frozen body."""

    name = "simple-shot"
    trained = False
    factory = staticmethod(learners.simple_shot)
    centring: Literal["training", "support"] = "training"
    """SimpleShot: mean that is subtracted from features: that of the training classes,
    measured by metajax pretrain, or that of each support set."""

    def networks(self, shapes: Shapes, setting: Setting) -> dict[str, Any]:
        """The mean of the training classes; zeros where there is no file."""
        if self.centring == "support":
            return {}
        count = math.prod(shapes.features)
        if self.path is None:
            return {"mean": jnp.zeros(count)}
        return {"mean": read_mean(self.path, count)}


@dataclass(frozen=True)
class Pmf(PretrainedStart, InnerLoop):
    """P>M>F: Meta-Baseline, fine-tuned on augmented copies of each support set."""

    name = "pmf"
    takes = ("classes",)
    any_ways = True
    makes_head = True
    needs_backbone = False
    not_inherited = STEPPING
    factory = staticmethod(learners.pmf)
    rate: Positive = 1e-3
    """P>M>F: learning rate for fine-tuning on a task."""
    steps: CountOrZero = 10
    """P>M>F: gradient steps of fine-tuning on a task; training takes none."""
    optimizer: Literal["sgd", "momentum", "adam", "adam-b1-0"] = "adam"
    """P>M>F: optimizer of fine-tuning; momentum is 0.9, and adam-b1-0 has β1 = 0."""
    jitter: Share = 0.1
    """P>M>F: random shift, scale and rotation of the augmented copies, in the units of
    --augment.jitter."""
    scale: Positive = 10.0
    """P>M>F: initial scale of the cosines, which is learnt."""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """With the augmentation and the scale."""
        own = {"augment": jitter_of(self.jitter), "scale": self.scale}
        return super().arguments(setting) | own
