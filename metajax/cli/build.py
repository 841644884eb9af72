"""From a configuration to learners, optimizers and samplers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optax

from metajax import data, learners
from metajax.cli.presets import (
    Config,
    Conv4Model,
    GlyphsData,
    Inner,
    LearnerName,
    MLPModel,
    OmniglotData,
    SinusoidData,
)
from metajax.errors import InputError
from metajax.gradients import first_order
from metajax.inner import adam, mini_batches, whole
from metajax.learners import InnerOptimizer, curvature, parameter_rates, step_rates
from metajax.losses import accuracy, cross_entropy, mse
from metajax.models import conv4, in_precision, mlp
from metajax.types import Array, Learner, LearnerSchedule, Loss, Model, Sampler

Split = Literal["train", "validation", "test"]
INNER = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": adam,
    "adam-b1-0": lambda rate: adam(rate, b1=0.0),
}
OUTER = {"adam": optax.adam, "sgd": optax.sgd}
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
        return data.sinusoid(_shots(family, split), queries)

    return Task(episodes, 1, mse, mse, "mse")


@build_task.register
def _(family: GlyphsData, places: Places) -> Task:
    def episodes(split: Split, queries: int) -> Sampler:
        return data.glyphs(family.ways, _shots(family, split), queries, split=split)

    return Task(episodes, family.ways, cross_entropy, accuracy, "accuracy")


@build_task.register
def _(family: OmniglotData, places: Places) -> Task:
    def episodes(split: Split, queries: int) -> Sampler:
        store = data.omniglot(split, archives=places.archives, data_dir=places.data_dir)
        shots = _shots(family, split)
        return data.image_episodes(
            store, family.ways, shots, queries, rotations=family.rotations
        )

    return Task(episodes, family.ways, cross_entropy, accuracy, "accuracy")


def _shots(family: Any, split: Split) -> int:
    """Support examples a class (or a task, for regression)."""
    return (split == "train" and family.train_shots) or family.shots


@singledispatch
def build_model(model: Any, outputs: int, context: int) -> Model:
    """The network of a model configuration, with so many more features to its input."""
    raise NotImplementedError(type(model))


@build_model.register
def _(model: MLPModel, outputs: int, context: int) -> Model:
    return mlp(1 + context, model.hidden, outputs)


@build_model.register
def _(model: Conv4Model, outputs: int, context: int) -> Model:
    return conv4(
        outputs,
        model.filters,
        model.pooling,
        image_shape=(28, 28, 1 + context),
        head=model.head,
    )


def by_optimizer(factory: Callable[..., Learner]) -> Callable[..., Learner]:
    """A factory that takes an inner optimizer, as one that takes its configuration."""

    def build(model: Model, loss: Loss, inner: Inner, *args, **settings) -> Learner:
        optimizer = INNER[inner.optimizer](inner.rate)
        return factory(model, loss, optimizer, *args, **settings)

    return build


def by_rule(
    factory: Callable[..., Learner], rule: Callable[[float, int], InnerOptimizer]
) -> Callable[..., Learner]:
    """A factory that takes a learnt inner optimizer `rule(rate, steps)`, likewise."""

    def build(
        model: Model, loss: Loss, inner: Inner, steps: int, **settings
    ) -> Learner:
        if inner.optimizer != "sgd":
            raise InputError(
                "--inner.optimizer must be sgd for a learner that learns its own, got "
                f"{inner.optimizer}"
            )
        return factory(model, loss, rule(inner.rate, steps), steps, **settings)

    return build


def imaml(model: Model, loss: Loss, inner: Inner, *args, **settings) -> Learner:
    """IMAML of a configuration."""
    build = by_optimizer(partial(learners.imaml, strength=inner.strength))
    return build(model, loss, inner, *args, **settings)


class Choice(NamedTuple):
    """How a learner is built.

    Attributes:
      build: `build(model, loss, inner, steps, view=..., metrics=...) -> learner`.
      context: features, or channels, that it adds to the model's inputs.
      changes: further arguments of `build` that may change in training.
    """

    build: Callable[..., Learner]
    context: int = 0
    changes: tuple[str, ...] = ("grad",)


CONTEXT = 5  # CAVIA's parameters, as in its paper's sine waves
first_order_rule = partial(learners.learned_maml, grad=first_order)
LEARNERS: dict[LearnerName, Choice] = {
    "maml": Choice(by_optimizer(learners.maml)),
    "fomaml": Choice(by_optimizer(learners.fomaml), changes=()),
    "anil": Choice(by_optimizer(learners.anil)),
    "boil": Choice(by_optimizer(learners.boil)),
    "reptile": Choice(by_optimizer(learners.reptile), changes=()),
    "proto-maml": Choice(by_optimizer(learners.proto_maml)),
    "imaml": Choice(imaml, changes=()),
    "cavia": Choice(by_optimizer(partial(learners.cavia, context=CONTEXT)), CONTEXT),
    "meta-sgd": Choice(
        by_rule(learners.learned_maml, lambda rate, _: parameter_rates(rate))
    ),
    "meta-curvature": Choice(
        by_rule(learners.learned_maml, lambda rate, _: curvature(rate))
    ),
    # First-order, as in their papers.
    "meta-lstm": Choice(
        by_rule(first_order_rule, lambda rate, _: learners.meta_lstm(rate)), changes=()
    ),
    "learned-optimizer": Choice(
        by_rule(first_order_rule, lambda rate, _: learners.learned_optimizer()),
        changes=(),
    ),
    "maml++": Choice(
        by_rule(learners.maml_plus_plus, lambda rate, k: step_rates(rate, max(1, k))),
        changes=("grad", "step_weights"),
    ),
}


def build_schedule(config: Config, task: Task) -> Learner | LearnerSchedule:
    """The learner to be trained, which may change on the way.

    Raises:
      InputError: if the learner cannot change as asked for.
    """
    steps, outer = config.inner.steps, config.outer
    for flag, value, change in (
        ("first-order", outer.first_order, "grad"),
        ("multi-step", outer.multi_step, "step_weights"),
    ):
        if value and change not in LEARNERS[config.learner].changes:
            raise InputError(
                f"--outer.{flag} is not for {config.learner}; leave it out, or take "
                "--learner maml++"
            )

    def phases(**settings: Any) -> Learner | LearnerSchedule:
        def weighted(done: Array) -> Learner:
            weights = learners.multi_step_weights(done, steps, outer.multi_step)
            return build_learner(
                config, task, steps=steps, step_weights=weights, **settings
            )

        final = build_learner(config, task, steps=steps, **settings)
        if not outer.multi_step:
            return final
        return learners.switch(outer.multi_step, weighted, final)

    if not outer.first_order:
        return phases()
    return learners.switch(outer.first_order, phases(grad=first_order), phases())


def build_learner(
    config: Config, task: Task, *, steps: int, **settings: Any
) -> Learner:
    """The learner of a configuration, taking `steps` inner steps."""
    choice, batch = LEARNERS[config.learner], config.inner.batch
    model = build_model(config.model, task.outputs, choice.context)
    return choice.build(
        in_precision(model, config.precision),
        task.loss,
        config.inner,
        steps,
        view=whole if batch is None else mini_batches(batch),
        metrics={task.metric_name: task.metric},
        **settings,
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
    return optax.chain(clip, OUTER[outer.optimizer](rate))
