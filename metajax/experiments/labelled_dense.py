"""A run's learner of segmentation or detection, for labelling."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from metajax import labelling
from metajax.data.dense.store import Targets
from metajax.evaluation import per_query
from metajax.experiments.build import build_learner
from metajax.experiments.config import Config
from metajax.experiments.labelled import (
    TOGETHER,
    bare_task,
    blaming,
    check_kind,
    image_format,
)
from metajax.experiments.results import Kept
from metajax.experiments.run import configured, restored
from metajax.labelling import DenseLabeller, DenseLearner
from metajax.types import Learner


def dense_learner(directory: Path, kind: Targets) -> DenseLearner:
    """A run's learner, of masks or of boxes.

    Raises:
      InputError: if there is no such run, or it is not of that kind.
    """
    config = configured(directory)
    check_kind(config, kind)
    task = bare_task(config)
    return DenseLearner(
        partial(_build, config),
        image_format(config, task),
        config.data.targets(),
        config.learner,
        None if config.inner.any_ways else config.data.ways,
    )


def teach_dense_run(
    directory: Path, learner: DenseLearner, support: Path, kept: Kept = "last"
) -> DenseLabeller:
    """Teaches a run's learner the classes of a folder.

    Args:
      directory: the run's.
      learner: of `dense_learner`.
      support: the folder of labelled pictures.
      kept: which checkpoint.

    Raises:
      InputError: if there is no such checkpoint, or the folder will not do.
    """
    config = configured(directory)
    meta, _ = restored(directory, config, bare_task(config), kept)
    with blaming("--support"):
        store = learner.targets.read(support, learner.format)
        return labelling.teach_dense(learner, meta, store)


def _build(config: Config, classes: int) -> Learner:
    """The learner of a number of classes, predicting each picture by itself."""
    data = replace(config.data, ways=classes, train_ways=None)
    config = replace(config, data=data)
    task = bare_task(config)
    learner = build_learner(config, task, steps=config.evaluation.steps)
    if config.inner.beside_support:
        return per_query(learner, at_a_time=TOGETHER)
    return learner
