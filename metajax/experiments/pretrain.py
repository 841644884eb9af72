"""Pre-training: a classifier of all training classes, of which the body is kept.

| file | what |
|---|---|
| config.json | the configuration, whole |
| data.json | the hash of every file of the data |
| metrics.jsonl | a row a dispatch, and one a validation |
| checkpoints/ | the newest states; forms.json, those of a run that timed them |
| best/ | the state of the best validation |
| backbone.npz | the body, for `--inner.backbone DIR`, and its mean feature |
| backbone-best.npz | the body of the best validation, for `--inner.backbone FILE` |

Validations are few-shot tasks of the validation classes, solved by the cosine to the
mean feature of each class. A classifier that goes on learning its own classes may get
worse at them: that is when to stop early.
"""

import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import optax

from metajax._files.lock import only_writer
from metajax.data import JointBatches
from metajax.errors import InputError, naming
from metajax.experiments.backbone import BEST, FILE, write_body
from metajax.experiments.best import Best, best_checkpoint
from metajax.experiments.bodies import cosine_classifier, mean_feature
from metajax.experiments.config import Config
from metajax.experiments.forms import forms_of
from metajax.experiments.interrupt import Signals
from metajax.experiments.record import keep_data
from metajax.experiments.run import VALIDATIONS, Validation, claim, lengthen
from metajax.experiments.tasks import Places, Split, Task, build_model
from metajax.learners import maml
from metajax.models import in_precision
from metajax.models.headed import parts
from metajax.reporting import JsonLines, Progress
from metajax.training.averaging import averaged
from metajax.training.checkpoints import Checkpoints
from metajax.training.fitting import fit
from metajax.training.state import init_state
from metajax.types import Learner, Model, Params, Sampler

EXAMPLES = 64  # a batch


class Training(NamedTuple):
    """What is pre-trained, on what.

    Attributes:
      config: the configuration.
      task: of its data.
      model: the classifier of all training classes.
      learner: it, as a learner.
      batches: of all training classes.
      episodes: few-shot tasks of the training classes, for the mean feature.
      validation: few-shot tasks of the validation classes; None if there are none.
    """

    config: Config
    task: Task
    model: Model
    learner: Learner
    batches: JointBatches
    episodes: Sampler
    validation: Sampler | None

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits whose examples it sees."""
        return ("train",) if self.validation is None else ("train", "validation")


def pretrain(
    config: Config, directory: Path, places: Places, *, devices: int | None = None
) -> None:
    """Trains in `directory`, or goes on with what is there, and saves the body.

    Raises:
      InputError: if the data have no classes that stay, or too few for the tasks, there
        are no meta-steps, or another process is training in the directory.
      Stopped: if a signal asked for it; the run is saved.
    """
    config.check()
    if not config.outer.steps:
        raise InputError(
            "--outer.steps must be at least 1 to pre-train a body, got 0; leave out "
            "--learner and --outer.steps"
        )
    training = _training(config, places)
    claim(directory, config)
    checkpoints = Checkpoints(directory / "checkpoints")
    rows = JsonLines(directory / "metrics.jsonl")
    logged = training.task.metric.logged()
    bar = Progress(config.outer.steps, 1, metrics=logged)
    with only_writer(directory), bar as progress, Signals() as signals:
        keep_data(directory, training.task, training.splits)
        lengthen(directory, config)
        best = Best(directory, training.task.metric, checkpoints)
        state = fit(
            training.learner,
            config.outer.build(),
            training.batches,
            steps=config.outer.steps,
            tasks=1,
            seed=config.seed,
            devices=devices,
            checkpoints=checkpoints,
            observers=(rows, progress, *_validations(training, rows, best)),
            stop=signals,
            forms=forms_of(config, places),
        )
        best.prune()
        _write(training, directory / FILE, averaged(state)["body"])
        _write_best(training, directory)


def _training(config: Config, places: Places) -> Training:
    task = config.data.build(places)
    if task.joint is None:
        raise InputError(
            "these data have no classes that stay, so there is nothing to pre-train "
            "on; take Omniglot, CIFAR-FS or a folder of images"
        )
    batches = task.joint(EXAMPLES)
    model = in_precision(
        build_model(task._replace(outputs=batches.classes), config.model),
        config.precision,
    )
    # No inner steps: the loss of the query set, which is the batch.
    metrics = task.metric.logged()
    classifier = maml(model, task.losses["mean"], optax.identity(), 0, metrics=metrics)
    with naming(config.data.flags("train")):
        episodes = task.episodes("train", 1)
    validation = _validation(config, task)
    return Training(config, task, model, classifier, batches, episodes, validation)


def _validation(config: Config, task: Task) -> Sampler | None:
    """The few-shot tasks of validations; None, with a warning, without such classes."""
    if not task.has("validation"):
        print(
            "warning: these data have no validation split, so there are no "
            "validations, and only the last body is kept",
            file=sys.stderr,
        )
        return None
    with naming(config.data.flags("validation")):
        return task.episodes("validation", config.evaluation.queries)


def _validations(
    training: Training, rows: JsonLines, best: Best
) -> tuple[Validation, ...]:
    """The observer of the validations, if there are any."""
    config, task = training.config, training.task
    if training.validation is None:
        return ()
    return (
        Validation(
            cosine_classifier(training.model, task.outputs),
            training.validation,
            task,
            inductive_queries=config.evaluation.inductive_queries,
            every=max(1, config.outer.steps // VALIDATIONS),
            sinks=(rows,),
            best=best,
        ),
    )


def _write_best(training: Training, directory: Path) -> None:
    """Saves the body of the best validation, if there was one."""
    init = partial(init_state, training.learner, training.config.outer.build())
    like = jax.eval_shape(init, jax.random.key(0))
    state = best_checkpoint(directory).restore(like)
    if state is not None:
        when = f", of the best validation, after {int(state.step)} steps"
        _write(training, directory / BEST, averaged(state)["body"], when)


def _write(training: Training, path: Path, params: Params, when: str = "") -> None:
    body, _ = parts(training.model, "pretrain")
    write_body(path, params, mean_feature(body, params, training.episodes))
    print(f"a body of {training.batches.classes} classes is in {path}{when}")
