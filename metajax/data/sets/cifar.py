"""CIFAR-100's few-shot splits, CIFAR-FS and FC100, prepared once through TFDS."""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from metajax.checks import check_one_of
from metajax.data.images import ImageStore
from metajax.data.records import Records
from metajax.data.sets._cifar_classes import CIFAR_FS, FC100, NAMES, PAIRS
from metajax.data.sets.preparing import make_builder, prepare

if TYPE_CHECKING:
    from metajax.data.sets.cifar_builder import Cifar100Classes

Split = Literal["train", "validation", "test"]


def cifar_fs(
    split: Split = "train",
    *,
    archives: str | Path | None = None,
    data_dir: str | Path | None = None,
    mapped: bool = False,
) -> ImageStore:
    """CIFAR-FS: CIFAR-100 split at random into 64, 16 and 20 classes.

    A class has its 600 images of 32x32 pixels, CIFAR-100's 500 for training before its
    100 for testing. The first call prepares the data (about half a minute, and 0.2 GB);
    later ones read them.

    Args:
      split: which classes.
      archives: a folder with `cifar-100-binary.tar.gz`, or that file; without it the
        file is downloaded.
      data_dir: where the prepared data are kept; TFDS's own folder by default.
      mapped: leave the images there, for `stream_episodes`.

    Returns:
      An `ImageStore` in the order of superclasses and classes, for `image_episodes`.

    Raises:
      InputError: for an unknown split, an archive that is missing, truncated or not
        CIFAR-100's, or no network.

    Source: Bertinetto et al., "Meta-learning with differentiable closed-form solvers",
    ICLR 2019. The classes are those of the splits that Torchmeta ships, and two other
    public copies agree; Krizhevsky, "Learning multiple layers of features from tiny
    images", 2009, for the images.
    """
    held_out = {name: CIFAR_FS[name].split() for name in CIFAR_FS}
    rows = _rows(split, [name for _, name in PAIRS], held_out)
    return _store(rows, archives=archives, data_dir=data_dir, mapped=mapped)


def fc100(
    split: Split = "train",
    *,
    archives: str | Path | None = None,
    data_dir: str | Path | None = None,
    mapped: bool = False,
) -> ImageStore:
    """FC100: CIFAR-100 split by superclass, 12, 4 and 4 of them.

    So there are 60, 20 and 20 classes, and those of a test are unlike those trained on.

    Args:
      split: which classes.
      archives: see `cifar_fs`.
      data_dir: see there.
      mapped: see there.

    Returns:
      An `ImageStore`, see there.

    Raises:
      InputError: see there.

    Source: Oreshkin et al., "TADAM: Task dependent adaptive metric for improved
    few-shot learning", NeurIPS 2018. The superclasses are those of the splits that
    Torchmeta ships, and of another public copy that cites the authors' code.
    """
    held_out = {name: FC100[name].split() for name in FC100}
    rows = _rows(split, [group for group, _ in PAIRS], held_out)
    return _store(rows, archives=archives, data_dir=data_dir, mapped=mapped)


def _rows(
    split: Split, keys: Sequence[str], held_out: dict[str, list[str]]
) -> list[int]:
    """Which of the classes are in a split, by the key of each."""
    check_one_of("split", split, get_args(Split))
    others = {key for name in held_out for key in held_out[name]}
    chosen: Collection[str] = held_out.get(split, set(keys) - others)
    return [row for row, key in enumerate(keys) if key in chosen]


def _store(
    rows: list[int],
    *,
    archives: str | Path | None,
    data_dir: str | Path | None,
    mapped: bool,
) -> ImageStore:
    builder: Any = prepare_cifar100(archives=archives, data_dir=data_dir)
    shape = len(rows), *builder.info.features["images"].shape
    opened = partial(_source, rows, builder.data_path.parent.parent)
    images = Records(opened, "images", shape)
    counts = np.full(len(rows), shape[1])
    names = tuple(NAMES[row] for row in rows)
    return ImageStore(images if mapped else np.asarray(images), counts, names)


class _Some(Sequence):
    """Some records of a data source."""

    def __init__(self, source: Any, rows: Sequence[int]):
        self.source, self.rows = source, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.source[self.rows[index]]


def _source(rows: Sequence[int], data_dir: Path) -> Sequence[Any]:
    """The records of classes that are prepared."""
    builder: Any = prepare_cifar100(data_dir=data_dir)
    return _Some(builder.as_data_source("classes"), rows)


def prepare_cifar100(
    *, archives: str | Path | None = None, data_dir: str | Path | None = None
) -> "Cifar100Classes":
    """Prepares CIFAR-100 unless it is prepared already, and returns its TFDS builder.

    Args:
      archives: see `cifar_fs`.
      data_dir: see there.

    Returns:
      The builder, for TFDS's own interface.

    Raises:
      InputError: see there.
    """
    return prepare(
        make_builder("CIFAR-100", builder_class, archives=archives, data_dir=data_dir)
    )


def builder_class() -> "type[Cifar100Classes]":
    """The TFDS builder's class, imported with TFDS, which other data do without."""
    from metajax.data.sets.cifar_builder import Cifar100Classes

    return Cifar100Classes
