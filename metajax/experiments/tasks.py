"""What a family of tasks gives: samplers by split, and what they ask of a model."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from metajax import rl
from metajax.data import ImageStore, JointBatches
from metajax.data.folders.contents import Contents
from metajax.errors import InputError
from metajax.evaluation.judging import JudgeTask
from metajax.experiments.networks import Network
from metajax.metrics import Metric
from metajax.models import in_precision
from metajax.models.precision import Precision
from metajax.types import Loss, Model, Sampler

Split = Literal["train", "validation", "test"]
Kind = Literal["classes", "values", "labelled-fields", "masks", "boxes", "trials"]
"""What the targets of a task are: of labelled fields, values and one label; of trials,
none."""
LossName = Literal["mean", "sum-over-ways"]


@dataclass(frozen=True)
class Places:
    """Where data are on this machine: no part of what a run is."""

    archives: Path | None = None
    """Folder with images_background.zip and images_evaluation.zip (Omniglot), or with
    cifar-100-binary.tar.gz (CIFAR-FS, FC100)."""
    data_dir: Path | None = None
    """Folder of prepared data; by default TFDS's data directory."""
    images: Path | None = None
    """Folder of images, in one of three layouts: train/CLASS/*, and likewise
    validation/ and test/; train.csv, val.csv and test.csv (columns filename, label)
    with the files in images/; or train_data.hdf5 and so on, as torchmeta writes them.
    Images are decoded once and kept beside the prepared data."""
    columns: str | None = None
    """Columns of the tables of --images, if not filename and label, as
    file=NAME,label=NAME."""
    stream: bool = False
    """Leave images on disk and read only the sampled ones, for data larger than the
    device's memory; the episodes are the same. `pretrain` reads all images in any
    case."""

    @property
    def prepared(self) -> Path:
        """The folder of prepared data; TFDS's own, which reads the same variable."""
        home = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        return self.data_dir or Path(home).expanduser()


def every_split(split: Split) -> bool:
    """Returns True: the default `has` of a `Source`."""
    return True


class Source(NamedTuple):
    """Where examples come from.

    Attributes:
      folder: the folder of files, or of prepared data.
      contents: `contents(split)`, the hash of every file.
      has: `has(split)`, whether there is such a split; true of every split by default.
    """

    folder: Path
    contents: Callable[[Split], Contents]
    has: Callable[[Split], bool] = every_split


def build_model(task: "Task", network: Network, context: int = 0) -> Model:
    """The network of its options, of inputs with so many more channels.

    Raises:
      InputError: if it does not take such inputs.
    """
    shape = task.shape_with(context)
    if network.images != (len(shape) == 3):
        raise InputError(
            f"--model {network.name} does not take inputs of shape "
            f"{task.input_shape}; take another"
        )
    return network.build(shape, task.outputs)


def model_for(
    task: "Task", network: Network, context: int, precision: Precision
) -> Model:
    """The same, computed in a precision.

    Raises:
      InputError: see `build_model`; or if the precision is too low for the network.
    """
    if precision == "bfloat16" and network.refuses_bfloat16:
        raise InputError(
            f"--precision bfloat16 is too low for --model {network.name}, whose sines "
            "have large arguments; take tensorfloat32 or float32"
        )
    return in_precision(build_model(task, network, context), precision)


class Trials(NamedTuple):
    """What a learner of policies acts in.

    Attributes:
      environment: the environment.
      episodes: of a trial.
    """

    environment: rl.Environment
    episodes: int


class Task(NamedTuple):
    """What a family of tasks gives, and asks of a model.

    Attributes:
      episodes: `episodes(split, queries) -> sampler`.
      outputs: the number of outputs.
      train_outputs: the same in training, of learners that take any number.
      support: the most examples of a support set.
      losses: the losses it may take.
      metric: how it is judged.
      input_shape: the shape of one input; features, or channels, come last.
      kind: what the targets are.
      joint: `joint(examples) -> sampler` of all training classes at once; None where
        classes do not stay.
      store: `store(split)`, the images of a split by class; None likewise.
      source: where the examples come from; None where they are computed.
      network: `network(task, options, context, precision)`, the network that a learner
        takes, of a network's options: a model by default.
      judge: see `metajax.evaluate`; None of episodes.
      trials: the environment to act in, if there is one.
      is_whole: whether a support set is all of its signal: all pixels of an image.
      references: values of the metric to hold a run's against, by name.
    """

    episodes: Callable[[Split, int], Sampler]
    outputs: int
    train_outputs: int
    support: int
    losses: Mapping[LossName, Loss]
    metric: Metric
    input_shape: tuple[int, ...]
    kind: Kind
    joint: Callable[[int], JointBatches] | None = None
    store: Callable[[Split], ImageStore] | None = None
    source: Source | None = None
    network: Callable[["Task", Network, int, Precision], Any] = model_for
    judge: JudgeTask | None = None
    trials: Trials | None = None
    is_whole: bool = False
    references: Mapping[str, float] = MappingProxyType({})

    def has(self, split: Split) -> bool:
        """Whether there are examples of a split."""
        return self.source is None or self.source.has(split)

    def shape_with(self, context: int) -> tuple[int, ...]:
        """The shape of one input with so many more channels."""
        *size, channels = self.input_shape
        return *size, channels + context
