"""What a run holds, read again: from its directory, or from a published file."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax

from metajax.errors import InputError
from metajax.experiments.backbone import FILE
from metajax.experiments.best import best_checkpoint
from metajax.experiments.build import build_learner
from metajax.experiments.config import CONFIG, Config
from metajax.experiments.published import file_of, is_published, read_published
from metajax.experiments.results import Kept
from metajax.experiments.tasks import Task
from metajax.ops import Tuned
from metajax.training.averaging import averaged
from metajax.training.checkpoints import FORMS, Checkpoints
from metajax.training.state import TrainState, init_state
from metajax.types import Learner, LearnerSchedule, PyTree


def forms_taken(run: Path) -> Tuned | None:
    """The forms of operations that a run takes; None for those of the table.

    Args:
      run: its directory, or its published file.

    Raises:
      InputError: if their file is damaged.
    """
    if not is_published(run):
        return checkpoints_of(run).forms()
    text = file_of(run, FORMS)
    return None if text is None else Tuned.from_text(text)


def restored(
    directory: Path, config: Config, task: Task, kept: Kept = "last"
) -> tuple[PyTree, int]:
    """A run's newest or best meta-parameters and their meta-step.

    Args:
      directory: the run's, or its published file.
      config: its configuration, see `configured`.
      task: of its data.
      kept: which checkpoint.

    Raises:
      InputError: if the run has no such checkpoint.
    """
    learner = build_learner(config, task)
    if is_published(directory):
        return _published_meta(directory, learner, kept)
    where = {"last": checkpoints_of, "best": best_checkpoint}[kept]
    state = where(directory).restore(abstract_state(learner, config))
    if state is None:
        what = "checkpoint" if kept == "last" else "checkpoint of a validation"
        raise InputError(f"{directory} has no {what} yet; train it first")
    return averaged(state), int(state.step)


def _published_meta(path: Path, learner: Learner, kept: Kept) -> tuple[PyTree, int]:
    if kept != "last":
        raise InputError(f"{path} holds one checkpoint; leave out --checkpoint {kept}")
    published = read_published(path)
    like = jax.eval_shape(learner.init, jax.random.key(0))
    return published.meta(like), published.step


def configured(directory: Path) -> Config:
    """A run's configuration, with the backbone or the network that it keeps.

    Args:
      directory: the run's, or its published file.

    Raises:
      InputError: if it is no run.
    """
    config = with_own_body(recorded_config(directory), directory)
    if not is_published(directory):
        return config
    return replace(config, model=config.model.within(directory))


def with_own_body(config: Config, directory: Path) -> Config:
    """The configuration, with the backbone that the run keeps, if it keeps one."""
    if file_of(directory, FILE) is None:
        return config
    return replace(config, inner=config.inner.with_backbone(str(directory)))


def checkpoints_of(directory: Path) -> Checkpoints:
    """The checkpoints of a run's directory."""
    return Checkpoints(directory / "checkpoints")


def abstract_state(learner: Learner | LearnerSchedule, config: Config) -> TrainState:
    """The shapes of a run's states."""
    init = partial(init_state, learner, config.build_optimizer())
    return jax.eval_shape(init, jax.random.key(0))


def recorded_config(directory: Path) -> Config:
    """A run's configuration, as its file has it.

    Args:
      directory: the run's, or its published file.

    Raises:
      InputError: if it is no run, or of another version.
    """
    path, text = directory / CONFIG, file_of(directory, CONFIG)
    if text is None:
        raise InputError(f"{directory} is not a run directory: it has no config.json")
    try:
        config = Config.from_dict(json.loads(text))
        config.check()
    except (ValueError, RecursionError) as error:
        other = "publish it again", "choose another --run-dir"
        raise InputError(
            f"{path} is not a configuration of this version of metajax ({error}); "
            f"{other[not is_published(directory)]}"
        ) from error
    return config
