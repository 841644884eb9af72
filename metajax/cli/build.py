"""From a configuration to learners, optimizers and samplers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optax

from metajax import data, learners
from metajax.cli.presets import (
    Config,
    Conv4Model,
    GlyphsData,
    MLPModel,
    OmniglotData,
    SinusoidData,
)
from metajax.inner import adam
from metajax.losses import accuracy, cross_entropy, mse
from metajax.models import conv4, in_precision, mlp
from metajax.types import Learner, Loss, Model, Sampler

Split = Literal["train", "validation", "test"]
LEARNERS = {"maml": learners.maml, "fomaml": learners.fomaml}
INNER = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": adam,
}
WARM_UP = 0.04  # of the meta-steps


@dataclass(frozen=True)
class Places:
    """Where data are on this machine: no part of what a run is."""

    archives: Path | None = None
    """Folder of images_background.zip and images_evaluation.zip (Omniglot)."""
    data_dir: Path | None = None
    """Folder of prepared data; TFDS's own by default."""


class Task(NamedTuple):
    """What a family of data asks of a model.

    Attributes:
      episodes: `episodes(split, queries) -> sampler`.
      outputs: the number of outputs.
      loss: the loss.
      metric: the metric it is judged by.
      metric_name: its name.
    """

    episodes: Callable[[Split, int], Sampler]
    outputs: int
    loss: Loss
    metric: Loss
    metric_name: Literal["accuracy", "mse"]


@singledispatch
def build_task(family: Any, places: Places) -> Task:
    """The task of a data configuration."""
    raise NotImplementedError(type(family))


@build_task.register
def _(family: SinusoidData, places: Places) -> Task:
    def episodes(split: Split, queries: int) -> Sampler:
        return data.sinusoid(family.shots, queries)

    return Task(episodes, 1, mse, mse, "mse")


@build_task.register
def _(family: GlyphsData, places: Places) -> Task:
    def episodes(split: Split, queries: int) -> Sampler:
        return data.glyphs(family.ways, family.shots, queries, split=split)

    return Task(episodes, family.ways, cross_entropy, accuracy, "accuracy")


@build_task.register
def _(family: OmniglotData, places: Places) -> Task:
    def episodes(split: Split, queries: int) -> Sampler:
        store = data.omniglot(split, archives=places.archives, data_dir=places.data_dir)
        return data.image_episodes(
            store, family.ways, family.shots, queries, rotations=family.rotations
        )

    return Task(episodes, family.ways, cross_entropy, accuracy, "accuracy")


@singledispatch
def build_model(model: Any, outputs: int) -> Model:
    """The network of a model configuration."""
    raise NotImplementedError(type(model))


@build_model.register
def _(model: MLPModel, outputs: int) -> Model:
    return mlp(1, model.hidden, outputs)


@build_model.register
def _(model: Conv4Model, outputs: int) -> Model:
    return conv4(outputs, model.filters, model.pooling)


def build_learner(config: Config, task: Task, *, steps: int) -> Learner:
    """The learner of a configuration, taking `steps` inner steps."""
    return LEARNERS[config.learner](
        in_precision(build_model(config.model, task.outputs), config.precision),
        task.loss,
        INNER[config.inner.optimizer](config.inner.rate),
        steps,
        metrics={task.metric_name: task.metric},
    )


def build_optimizer(config: Config) -> optax.GradientTransformation:
    """The outer optimizer of a configuration."""
    outer = config.outer
    rate = {
        "constant": lambda: outer.rate,
        "cosine": lambda: optax.warmup_cosine_decay_schedule(
            init_value=0.0,
            peak_value=outer.rate,
            warmup_steps=max(1, round(WARM_UP * outer.steps)),
            decay_steps=max(2, outer.steps),
            end_value=0.01 * outer.rate,
        ),
    }[outer.schedule]()
    clip = (
        optax.identity()
        if outer.clip is None
        else optax.clip_by_global_norm(outer.clip)
    )
    return optax.chain(clip, optax.adam(rate))
