"""From a configuration to models, learners and optimizers."""

from collections.abc import Callable
from functools import partial, singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import optax

from metajax import learners
from metajax.averaging import parameter_average
from metajax.cli.backbone import read_body
from metajax.cli.presets import (
    Config,
    Conv4Model,
    Inner,
    LearnerName,
    MLPModel,
    ResNet12Model,
)
from metajax.cli.tasks import Task
from metajax.errors import InputError
from metajax.gradients import first_order
from metajax.inner import adam, mini_batches, whole
from metajax.learners import InnerOptimizer, curvature, parameter_rates, step_rates
from metajax.models import conv4, in_precision, mlp, resnet12
from metajax.models.headed import parts
from metajax.types import Array, Learner, LearnerSchedule, Loss, Model

INNER = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "adam": adam,
    "adam-b1-0": lambda rate: adam(rate, b1=0.0),
}
OUTER = {
    "adam": lambda rate, decay: optax.adamw(rate, weight_decay=decay),
    "sgd": lambda rate, decay: optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(rate)
    ),
}
WARM_UP = 0.04  # of the meta-steps


@singledispatch
def build_model(model: Any, task: Task, context: int) -> Model:
    """The network of a model configuration, with so many more features to its input."""
    raise NotImplementedError(type(model))


@build_model.register
def _(model: MLPModel, task: Task, context: int) -> Model:
    return mlp(task.input_shape[-1] + context, model.hidden, task.outputs)


@build_model.register
def _(model: Conv4Model, task: Task, context: int) -> Model:
    height, width, channels = task.input_shape
    return conv4(
        task.outputs,
        model.filters,
        model.pooling,
        image_shape=(height, width, channels + context),
        head=model.head,
        norm=model.norm,
    )


@build_model.register
def _(model: ResNet12Model, task: Task, context: int) -> Model:
    height, width, channels = task.input_shape
    return resnet12(
        task.outputs,
        model.widths,
        model.pool,
        image_shape=(height, width, channels + context),
        head=model.head,
        norm=model.norm,
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
    build = by_optimizer(
        partial(learners.imaml, strength=inner.strength, damping=inner.damping)
    )
    return build(model, loss, inner, *args, **settings)


def mtl(model: Model, loss: Loss, inner: Inner, *args, **settings) -> Learner:
    """Meta-transfer learning of a configuration."""
    path = None if inner.backbone is None else Path(inner.backbone)
    body, _ = parts(model, "mtl")
    build = by_optimizer(partial(learners.mtl, backbone=read_body(path, body)))
    return build(model, loss, inner, *args, **settings)


class Choice(NamedTuple):
    """How a learner is built.

    Attributes:
      build: `build(model, loss, inner, steps, view=..., metrics=...) -> learner`.
      context: features, or channels, that it adds to the model's inputs.
      changes: what of it may be changed: in training, by a file, or to study it.
    """

    build: Callable[..., Learner]
    context: int = 0
    changes: tuple[str, ...] = ("grad", "rate")


CONTEXT = 5  # CAVIA's parameters, as in its paper's sine waves
first_order_rule = partial(learners.learned_maml, grad=first_order)
LEARNERS: dict[LearnerName, Choice] = {
    "maml": Choice(by_optimizer(learners.maml)),
    "fomaml": Choice(by_optimizer(learners.fomaml), changes=("rate",)),
    "anil": Choice(by_optimizer(learners.anil)),
    "boil": Choice(by_optimizer(learners.boil)),
    "reptile": Choice(by_optimizer(learners.reptile), changes=("rate",)),
    "proto-maml": Choice(by_optimizer(learners.proto_maml)),
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
    "mtl": Choice(mtl, changes=("grad", "rate", "backbone")),
}


def build_schedule(config: Config, task: Task) -> Learner | LearnerSchedule:
    """The learner to be trained, which may change on the way.

    Raises:
      InputError: if the learner cannot change as asked for.
    """
    steps, outer = config.inner.steps, config.outer
    for flag, value, change, other in (
        ("outer.first-order", outer.first_order, "grad", "maml++"),
        ("outer.multi-step", outer.multi_step, "step_weights", "maml++"),
        ("inner.backbone", config.inner.backbone, "backbone", "mtl"),
    ):
        if value and change not in LEARNERS[config.learner].changes:
            raise InputError(
                f"--{flag} is not for {config.learner}; leave it out, or take "
                f"--learner {other}"
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
    model = build_model(config.model, task, choice.context)
    if config.loss not in task.losses:
        raise InputError(
            f"--loss must be {' or '.join(task.losses)} for these data, got "
            f"{config.loss}"
        )
    return choice.build(
        in_precision(model, config.precision),
        task.losses[config.loss],
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
    each, clip, average = outer.clip_each, outer.clip, outer.average
    return optax.chain(
        optax.identity() if each is None else optax.clip(each),
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        OUTER[outer.optimizer](rate, outer.weight_decay),
        optax.identity() if average is None else parameter_average(average),
    )
