"""A run that begins with the meta-parameters of another."""

from pathlib import Path

import jax

from metajax._files.fingerprint import described
from metajax.errors import InputError
from metajax.experiments.build import bare_task
from metajax.experiments.config import Config
from metajax.experiments.restoring import abstract_state, configured, restored
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import init_state
from metajax.types import Learner, LearnerSchedule, PyTree, learner_at


def read_beginning(
    run: Path, learner: Learner | LearnerSchedule, config: Config
) -> PyTree:
    """The newest meta-parameters of another run, for a learner to begin with.

    Args:
      run: the directory of that run, or its published file.
      learner: that is trained.
      config: of its run.

    Raises:
      InputError: if there is no such run, or its meta-parameters are not of the
        learner's paths, shapes and dtypes.
    """
    theirs = configured(run)
    meta, _ = restored(run, theirs, bare_task(theirs))
    like = abstract_state(learner, config).meta
    present, expected = described(meta), described(like)
    if present != expected:
        lacking = [line for line in expected if line not in present] or expected
        raise InputError(
            f"--from: {run} holds other meta-parameters than this run has (expected "
            f"{lacking[0]}); take its options with --config {run}, or leave out --from"
        )
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(meta))


def begin(
    checkpoints: Checkpoints,
    learner: Learner | LearnerSchedule,
    config: Config,
    meta: PyTree,
) -> None:
    """Saves meta-parameters as a run's state before its first meta-step.

    Nothing happens in a run that has a checkpoint: it has begun.
    """
    if checkpoints.steps():
        return
    begun = learner_at(learner, 0)._replace(init=lambda key: meta)
    state = init_state(begun, config.build_optimizer(), jax.random.key(0))
    checkpoints.save(state)


def check_begun(directory: Path, checkpoints: Checkpoints, config: Config) -> None:
    """Refuses to begin without the meta-parameters that a run is to begin with."""
    if config.start is not None and not checkpoints.steps():
        raise InputError(
            f"{directory} is configured to begin with the meta-parameters of another "
            "run; give that run, or its published file, as --from"
        )
