"""From a configuration to tasks, learners and training episodes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metajax import data
from metajax.errors import InputError, naming
from metajax.experiments.augmenting import augment_episodes
from metajax.experiments.config import Config
from metajax.experiments.learners import Setting
from metajax.experiments.plain import names_of
from metajax.experiments.tasks import LossName, Places, Split, Task
from metajax.types import Learner, LearnerSchedule, Loss, Sampler


def build_task(config: Config, places: Places) -> Task:
    """The task of a configuration, its episodes as its learner takes them.

    Raises:
      InputError: see `Family.build`.
    """
    task = config.data.build(places)

    def episodes(split: Split, queries: int) -> Sampler:
        with naming(config.data.flags(split)):
            drawn = task.episodes(split, queries)
        if not config.inner.in_order:
            return drawn
        return data.augmented(drawn, data.shuffle_support)

    metric = config.inner.metric or task.metric
    return task._replace(episodes=episodes, metric=metric)


def places_to_build(config: Config) -> Places:
    """Places with which a task can be built of which no episodes are drawn."""
    return Places(images=Path()) if "images" in config.data.places else Places()


def bare_task(config: Config) -> Task:
    """A run's task, of which no episodes are drawn."""
    return config.data.build(places_to_build(config))


def build_learner(
    config: Config, task: Task, *, steps: int | None = None, **changes: Any
) -> Learner:
    """The learner of a configuration.

    Args:
      config: the configuration.
      task: of its data.
      steps: inner steps; those of training by default.
      **changes: arguments of the learner's factory.

    Returns:
      The learner.

    Raises:
      InputError: if the configuration asks for what these data or this learner have
        not.
    """
    inner = config.inner if steps is None else config.inner.taking(steps)
    return inner.build(build_setting(config, task), **changes)


def build_training_learner(config: Config, task: Task) -> Learner | LearnerSchedule:
    """The learner to train, which may change on the way.

    Raises:
      InputError: if the learner cannot train on such tasks.
    """
    inner = config.inner
    if config.augment.fewest_ways and not inner.fewer_ways:
        raise InputError(
            f"--augment.fewest-ways is not for {inner.name}, in which the number "
            "of ways takes part; leave it out"
        )
    if task.train_outputs != task.outputs and not inner.any_ways:
        raise InputError(
            f"--data.train-ways is not for {inner.name}, whose head has as many "
            "outputs as it is trained with; give --data.train-ways None, or a "
            "--learner that takes any number of classes, such as prototypical"
        )
    trained = task._replace(outputs=task.train_outputs)
    return inner.build_training(build_setting(config, trained))


def build_training_episodes(config: Config, task: Task) -> Sampler:
    """The training episodes of a configuration, augmented as it says."""
    family, shots = config.data, config.data.number("shots", "train")
    return augment_episodes(config.augment, task, family.queries, shots, config.loss)


def build_setting(config: Config, task: Task) -> Setting:
    """What a learner is built for.

    Raises:
      InputError: if the learner does not take such tasks, or such a loss.
    """
    losses = _losses(config, task)
    if config.loss not in losses:
        raise InputError(
            f"--loss must be {' or '.join(losses)} for these data and this learner, "
            f"got {config.loss}"
        )
    return Setting(
        task.network(task, config.model, config.inner.context, config.precision),
        task.outputs,
        losses[config.loss],
        task.metric.logged(),
        task.input_shape,
        task.support,
        config.model.norm or "transductive",
        task.trials,
        task.is_whole,
    )


def _losses(config: Config, task: Task) -> Mapping[LossName, Loss]:
    """By name; those of the tasks, unless the learner has its own."""
    inner = config.inner
    if task.kind not in inner.takes:
        raise InputError(
            f"--learner {inner.name} learns from tasks of {' or '.join(inner.takes)}, "
            f"and those of {config.data.origin[0]} are of {task.kind}; take another, "
            "or another preset"
        )
    return task.losses if inner.loss is None else {"mean": inner.loss}


def at_other_tasks(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration whose learner is evaluated on other tasks of its data.

    Args:
      config: the configuration.
      changes: of the tasks, by name, such as "ways"; None for no change.

    Raises:
      InputError: if its learner does not take them.
    """
    family, inner = config.data, config.inner
    changes = {name: value for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        if name not in names_of(type(family)):
            raise InputError(
                f"--{name} is not for tasks of {family.origin[0]}; leave it out"
            )
        if value != getattr(family, name) and not getattr(inner, f"any_{name}", True):
            raise InputError(
                f"--{name} must be {getattr(family, name)}, as the run was trained: "
                f"{inner.name} does not take other {name}, got {value}"
            )
    return replace(config, data=replace(family, **changes))


def at_test_tasks(config: Config) -> Config:
    """A configuration whose training classes make tasks as the test's are."""
    names = names_of(type(config.data))
    names = {name for name in names if name.startswith("train_")}
    return replace(config, data=replace(config.data, **dict.fromkeys(names)))
