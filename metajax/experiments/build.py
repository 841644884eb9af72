"""From a configuration to models, learners and optimizers."""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import optax

from metajax import learners
from metajax.errors import InputError, naming
from metajax.experiments.choices import LEARNERS, Terms
from metajax.experiments.presets import (
    Config,
    Conv4Model,
    LearnerName,
    LossName,
    MLPModel,
    ResNet12Model,
)
from metajax.experiments.tasks import Places, Split, Task, build_task, flags_of
from metajax.gradients import first_order
from metajax.inner import mini_batches, whole
from metajax.models import conv4, in_precision, mlp, resnet12
from metajax.models.norms import NormName
from metajax.training.averaging import parameter_average
from metajax.types import Array, Learner, LearnerSchedule, Loss, Model, Sampler

OUTER = {
    "adam": lambda rate, decay: optax.adamw(rate, weight_decay=decay),
    "sgd": lambda rate, decay: optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(rate)
    ),
    "nesterov": lambda rate, decay: optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(rate, 0.9, nesterov=True)
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
    return conv4(
        task.outputs,
        model.filters,
        model.pooling,
        image_shape=_image_shape(task, context),
        head=model.head,
        norm=model.norm,
        halvings=model.halvings,
    )


@build_model.register
def _(model: ResNet12Model, task: Task, context: int) -> Model:
    return resnet12(
        task.outputs,
        model.widths,
        model.pool,
        image_shape=_image_shape(task, context),
        head=model.head,
        norm=model.norm,
    )


def _image_shape(task: Task, context: int) -> tuple[int, int, int]:
    height, width, channels = task.input_shape
    return height, width, channels + context


def task_of(config: Config, places: Places) -> Task:
    """The task of a configuration, its episodes as its learner takes them.

    Raises:
      InputError: see `metajax.experiments.tasks.build_task`.
    """
    task = build_task(config.data, places)
    prepare = LEARNERS[config.learner].episodes

    def episodes(split: Split, queries: int) -> Sampler:
        with naming(flags_of(config.data, split)):
            return prepare(task.episodes(split, queries))

    return task._replace(episodes=episodes)


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

    if config.augment.fewest_ways and not LEARNERS[config.learner].fewer_ways:
        raise InputError(
            f"--augment.fewest-ways is not for {config.learner}, in which the number "
            "of ways takes part; leave it out"
        )
    trained = task._replace(outputs=task.train_outputs)
    if trained.outputs != task.outputs and not LEARNERS[config.learner].any_ways:
        raise InputError(
            f"--data.train-ways is not for {config.learner}, whose head has as many "
            "outputs as it is trained with; leave it out, or take --learner "
            "prototypical"
        )

    def phases(**settings: Any) -> Learner | LearnerSchedule:
        def weighted(done: Array) -> Learner:
            weights = learners.multi_step_weights(done, steps, outer.multi_step)
            return build_learner(
                config, trained, steps=steps, step_weights=weights, **settings
            )

        final = build_learner(config, trained, steps=steps, **settings)
        if not outer.multi_step:
            return final
        return learners.switch(outer.multi_step, weighted, final)

    if not outer.first_order:
        return phases()
    return learners.switch(outer.first_order, phases(grad=first_order), phases())


def build_learner(
    config: Config, task: Task, *, steps: int, **settings: Any
) -> Learner:
    """The learner of a configuration, taking `steps` inner steps.

    Args:
      config: the configuration.
      task: what its data ask for.
      steps: of the inner loop.
      **settings: of the learner's own.

    Returns:
      The learner.

    Raises:
      InputError: if the configuration asks for what these data or this learner have
        not.
    """
    choice, batch = LEARNERS[config.learner], config.inner.batch
    model = build_model(config.model, task, choice.context)
    norm: NormName = getattr(config.model, "norm", "transductive")
    losses = _losses(config.learner, task)
    if config.loss not in losses:
        raise InputError(
            f"--loss must be {' or '.join(losses)} for these data and this learner, "
            f"got {config.loss}"
        )
    return choice.build(
        in_precision(model, config.precision),
        losses[config.loss],
        Terms(config.inner, task.input_shape, task.support, norm),
        steps,
        view=whole if batch is None else mini_batches(batch),
        metrics={task.metric_name: task.metric},
        **settings,
    )


def _losses(learner: LearnerName, task: Task) -> Mapping[LossName, Loss]:
    """By name; a learner that has its own needs classes to have it."""
    choice = LEARNERS[learner]
    if not choice.steps and task.metric_name != "accuracy":
        raise InputError(
            f"--learner {learner} is for classes, not for regression; take another, or "
            "a preset of images"
        )
    return task.losses if choice.loss is None else {"mean": choice.loss}


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
