"""From a configuration to the tasks: samplers, and what they ask of a model."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, singledispatch
from pathlib import Path
from typing import Any, Literal, NamedTuple

from metajax import data
from metajax.data.contents import Contents, hash_bytes, hash_files, hash_store
from metajax.data.listing import list_images, parse_columns
from metajax.errors import InputError, naming
from metajax.experiments.presets import (
    CifarData,
    Config,
    FolderData,
    GlyphsData,
    ImageData,
    LossName,
    OmniglotData,
    SinusoidData,
)
from metajax.losses import accuracy, cross_entropy, cross_entropy_over_ways, mse
from metajax.types import Loss, Sampler

Split = Literal["train", "validation", "test"]
SHOWN = 40  # characters of a folder's name, in its hashes'
MetricName = Literal["accuracy", "mse"]
CLASSIFICATION: dict[LossName, Loss] = {
    "mean": cross_entropy,
    "sum-over-ways": cross_entropy_over_ways,
}


@dataclass(frozen=True)
class Places:
    """Where data are on this machine: no part of what a run is."""

    archives: Path | None = None
    """Folder of images_background.zip and images_evaluation.zip (Omniglot), or of
    cifar-100-binary.tar.gz (CIFAR-FS, FC100)."""
    data_dir: Path | None = None
    """Folder of prepared data; TFDS's own by default."""
    images: Path | None = None
    """Folder of images: train/CLASS/*, validation/ and test/ likewise; or train.csv,
    val.csv and test.csv (columns filename, label) with the files in images/; or
    train_data.hdf5 likewise, as torchmeta writes it. They are decoded once, and kept so
    beside the prepared data."""
    columns: str | None = None
    """Columns of the tables of --images, file=NAME,label=NAME, where they have other
    names."""
    stream: bool = False
    """Leave images on the disk and read those that are drawn, for data that the device
    cannot hold; the episodes are the same. `pretrain` takes all of them."""


class Task(NamedTuple):
    """What a family of data asks of a model.

    Attributes:
      episodes: `episodes(split, queries) -> sampler`.
      outputs: the number of outputs.
      train_outputs: the same in training, of learners that take any number.
      support: the most examples of a support set.
      losses: the losses it may take.
      metric: the metric it is judged by.
      metric_name: its name.
      input_shape: the shape of one input; features, or channels, come last.
      joint: `joint(examples) -> sampler` of all training classes at once; None where
        classes do not stay.
      source: where the examples come from; None where they are computed.
    """

    episodes: Callable[[Split, int], Sampler]
    outputs: int
    train_outputs: int
    support: int
    losses: Mapping[LossName, Loss]
    metric: Loss
    metric_name: MetricName
    input_shape: tuple[int, ...]
    joint: Callable[[int], data.JointBatches] | None = None
    source: "Source | None" = None


class Source(NamedTuple):
    """Where examples come from.

    Attributes:
      folder: the folder of files, or of prepared data.
      contents: `contents(split)`, the hash of every file.
    """

    folder: Path
    contents: Callable[[Split], Contents]


@singledispatch
def build_task(family: Any, places: Places) -> Task:
    """The task of a data configuration.

    Raises:
      InputError: if a place is given that these data do not come from, or one is
        wanting.
    """
    raise NotImplementedError(type(family))


def _take(places: Places, what: str, *taken: str) -> None:
    """Refuses what would be ignored."""
    for name, value in vars(places).items():
        if value and name not in taken:
            raise InputError(
                f"--{name.replace('_', '-')} is not for {what}; leave it out, or "
                "choose a preset of other data"
            )


@build_task.register
def _(family: SinusoidData, places: Places) -> Task:
    _take(places, "sine waves, which are computed")

    def episodes(split: Split, queries: int) -> Sampler:
        return data.sinusoid(_shots(family, split), queries)

    support = max(_shots(family, split) for split in ("train", "test"))
    return Task(episodes, 1, 1, support, {"mean": mse}, mse, "mse", (1,))


@build_task.register
def _(family: GlyphsData, places: Places) -> Task:
    _take(places, "glyphs, which are computed")

    def episodes(split: Split, queries: int) -> Sampler:
        ways, shots = _ways(family, split), _shots(family, split)
        return data.glyphs(ways, shots, queries, split=split)

    return _classification(episodes, family, (28, 28, 1))


@build_task.register
def _(family: OmniglotData, places: Places) -> Task:
    _take(places, "Omniglot", "archives", "data_dir", "stream")
    store, source = _of_archives(data.omniglot, places)
    shape, stream = (28, 28, 1), places.stream
    return _stored(family, store, shape, family.rotations, source=source, stream=stream)


@build_task.register
def _(family: CifarData, places: Places) -> Task:
    _take(places, "CIFAR-100", "archives", "data_dir", "stream")
    load = {"cifar-fs": data.cifar_fs, "fc100": data.fc100}[family.splits]
    store, source = _of_archives(load, places)
    shape, stream = (32, 32, 3), places.stream
    return _stored(family, store, shape, 1, source=source, stream=stream)


def _of_archives(
    load: Callable[..., data.ImageStore], places: Places
) -> tuple[Callable[[Split, int], data.ImageStore], Source]:
    """A split's images, of data that are prepared from archives, and their source."""
    load = partial(load, archives=places.archives, data_dir=places.data_dir)

    def contents(split: Split) -> Contents:
        return hash_store(load(split, mapped=True))

    def store(split: Split, needed: int) -> data.ImageStore:
        del needed  # all classes have equally many
        return load(split, mapped=places.stream)

    return store, Source(prepared_in(places), contents)


@build_task.register
def _(family: FolderData, places: Places) -> Task:
    _take(places, "a folder of images", "images", "columns", "data_dir", "stream")
    folder, size = places.images, (family.size, family.size)
    if folder is None:
        raise InputError(
            "these data are a folder of yours: expected --images DIR, the folder that "
            "holds train/CLASS/*, or train.csv and images/"
        )
    columns = parse_columns(places.columns)

    def store(split: Split, needed: int) -> data.ImageStore:
        print(f"reading the {split} images of {folder}", file=sys.stderr)
        return data.image_folder(
            folder,
            size,
            split=split,
            columns=columns,
            min_per_class=needed if family.drop_small_classes else 1,
            cache=prepared_in(places) / "metajax_images",
            mapped=places.stream,
        )

    def contents(split: Split) -> Contents:
        whole = folder.resolve()
        place = hash_bytes(os.fsencode(whole))
        kept = f"{whole.name[:SHOWN]}-{split}-{place}.json"
        hashes = prepared_in(places) / "metajax_hashes" / kept
        classes = list_images(folder, split, columns).classes
        return hash_files(folder, classes, kept=hashes)

    source, stream = Source(folder, contents), places.stream
    return _stored(family, store, (*size, 3), 1, source=source, stream=stream)


def _stored(
    family: ImageData,
    store: Callable[[Split, int], data.ImageStore],
    image_shape: tuple[int, ...],
    rotations: int,
    *,
    source: Source,
    stream: bool,
) -> Task:
    """The task of images that are stored."""
    sampler = data.stream_episodes if stream else data.image_episodes

    def episodes(split: Split, queries: int) -> Sampler:
        ways, shots = _ways(family, split), _shots(family, split)
        images = store(split, shots + queries)
        return sampler(images, ways, shots, queries, rotations=rotations)

    def joint(examples: int) -> data.JointBatches:
        with naming(flags_of(family, "train")):
            images = store("train", _shots(family, "train") + family.queries)
        return data.joint_batches(images, examples, rotations=rotations)

    task = _classification(episodes, family, image_shape)
    return task._replace(joint=joint, source=source)


def _classification(
    episodes: Callable[[Split, int], Sampler],
    family: ImageData,
    image_shape: tuple[int, ...],
) -> Task:
    return Task(
        episodes,
        family.ways,
        _ways(family, "train"),
        max(_ways(family, s) * _shots(family, s) for s in ("train", "test")),
        CLASSIFICATION,
        accuracy,
        "accuracy",
        image_shape,
    )


def prepared_in(places: Places) -> Path:
    """The folder of prepared data; TFDS's own, which reads the same variable."""
    home = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return places.data_dir or Path(home).expanduser()


CLASSES: dict[str, tuple[data.Transform, ...]] = {
    "none": (),
    "turn": (data.turn_classes,),
    "turn-flip": (data.turn_classes, data.flip_classes),
}
MIXES: dict[str, Callable[[float, int], tuple[data.Transform, ...]]] = {
    "none": lambda alpha, ways: (),
    "mixup": lambda alpha, ways: (data.mixup(alpha, ways),),
    "metamix": lambda alpha, ways: (data.metamix(alpha, ways),),
}


def build_training_episodes(config: Config, task: Task) -> Sampler:
    """The training episodes of a configuration, augmented as it says.

    Raises:
      InputError: if episodes that are not of images are to be augmented, or the fewest
        ways or shots are more than there are, or come with another loss than a mean.
    """
    augment, family = config.augment, config.data
    episodes, size = task.episodes("train", family.queries), augment.jitter
    jitter = data.jitter(shift=size, scale=size, turn=90 * size)
    transforms = (
        *CLASSES[augment.classes],
        *((jitter,) if size else ()),
        *MIXES[augment.mix](augment.alpha, task.train_outputs),
    )
    fewest = augment.fewest_ways, augment.fewest_shots
    if not transforms and fewest == (None, None):
        return episodes
    if task.metric_name != "accuracy":
        raise InputError(
            "--augment is for classes of images, not for regression; leave it out"
        )
    if transforms:
        episodes = data.augmented(episodes, *transforms)
    if fewest == (None, None):
        return episodes
    if augment.mix != "none":
        raise InputError(
            "--augment.mix makes mixtures of labels, which --augment.fewest-ways and "
            "--augment.fewest-shots cannot take; leave one out"
        )
    if config.loss != "mean":
        raise InputError(
            "tasks of fewer ways or shots (--augment.fewest-...) need --loss mean, got "
            f"{config.loss}"
        )
    ways, shots = task.train_outputs, _shots(family, "train")
    ranges = (fewest[0] or ways, ways), (fewest[1] or shots, shots)
    return data.varied(episodes, *ranges)


def flags_of(family: Any, split: Split) -> dict[str, str]:
    """What errors call the arguments of `metajax.data` that a configuration sets."""
    train = split == "train"
    ways = "train-ways" if train and getattr(family, "train_ways", None) else "ways"
    shots = "train-shots" if train and family.train_shots else "shots"
    queries = "--data.queries" if train else "--evaluation.queries"
    drop = getattr(family, "drop_small_classes", False)
    left_out = ", small classes left out" if drop else ""
    return {
        "ways": f"--data.{ways}",
        "shots": f"--data.{shots}",
        "queries": queries,
        "images_per_class": f"--data.{shots} or {queries}",
        "min_per_class": "--data.drop-small-classes",
        "size": "--data.size",
        "height": "--data.size",
        "width": "--data.size",
        "store": f"the {split} data",
        "stored": f"the {split} data{left_out}",
    }


def _ways(family: ImageData, split: Split) -> int:
    """Classes a task."""
    return (split == "train" and family.train_ways) or family.ways


def _shots(family: Any, split: Split) -> int:
    """Support examples a class (or a task, for regression)."""
    return (split == "train" and family.train_shots) or family.shots
