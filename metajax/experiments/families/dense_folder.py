"""A folder of the user's own images, with masks or boxes."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metajax import data
from metajax.data.dense.coco_files import read_pictures
from metajax.data.dense.coco_folder import ANNOTATIONS
from metajax.data.dense.enough import enough_classes
from metajax.data.dense.mask_files import list_pairs
from metajax.data.dense.store import Targets
from metajax.data.folders.contents import Contents, digest_of, hash_files
from metajax.data.folders.layout import split_folder
from metajax.data.folders.listing import check_folder
from metajax.data.folders.names import SPLIT_NAMES, some
from metajax.data.folders.unreadable import describe
from metajax.errors import InputError
from metajax.experiments.bounds import Count
from metajax.experiments.families.dense import (
    DenseData,
    DetectionData,
    SegmentationData,
)
from metajax.experiments.families.folder import hashes_of
from metajax.experiments.tasks import Places, Source, Split
from metajax.types import Sampler


@dataclass(frozen=True)
class DenseFolderData(DenseData):
    """Images of the user's, in `train/`, `validation/` and `test/` of `--images DIR`.

    A split's classes are those of its own folder.
    """

    places = "images", "data_dir", "stream"
    size: Count = 96
    """Height and width that images are resized to, in pixels."""
    drop_small_classes: bool = False
    """Leave out classes with too few images for an episode, and print how many."""

    def load(self, folder: Path, cache: Path, *, mapped: bool) -> data.DenseStore:
        """The images of the folder of a split.

        Raises:
          InputError: if they cannot be read.
        """
        raise NotImplementedError

    def files(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The images of the folder of a split, and the files that label them.

        Raises:
          InputError: if they are not as expected.
        """
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        return self.size, self.size, 3

    def check_at_hand(self, places: Places) -> None:
        """Checks that the folder is given."""
        self._folder(places)

    def episodes(
        self, places: Places, targets: Targets
    ) -> Callable[[Split, int], Sampler]:
        """Of the images of each split."""
        folder, stream = self._folder(places), places.stream
        sampler = data.stream_dense_episodes if stream else data.dense_episodes

        def episodes(split: Split, queries: int) -> Sampler:
            print(f"reading the {split} images of {folder}", file=sys.stderr)
            store = self._store(places, split, mapped=stream)
            ways = self.number("ways", split)
            numbers = ways, self.shots, queries
            kept = self._kept(store, numbers, split, targets)
            return sampler(store, *numbers, targets=targets, classes=kept)

        return episodes

    def _kept(
        self,
        store: data.DenseStore,
        numbers: tuple[int, int, int],
        split: Split,
        targets: Targets,
    ) -> tuple[str, ...] | None:
        """The classes to draw from; None for all of them."""
        if not self.drop_small_classes:
            return None
        kept = enough_classes(store, *numbers, targets)
        if small := [name for name in store.names if name not in kept]:
            print(
                f"{len(small)} of {len(store.names)} classes of the {split} images are "
                f"in too few of them, and left out: {some(small)}",
                file=sys.stderr,
            )
        return kept

    def source(self, places: Places) -> Source:
        """The folder.

        A file may show several classes, so `Contents` has the names of the classes
        without files, and all files apart.
        """
        folder = self._folder(places)

        def contents(split: Split) -> Contents:
            names = self._store(places, split, mapped=True).names
            images, labels = self.files(_inside(folder, split))
            hashes = hash_files(
                folder,
                {"images": images, "labels": labels},
                kept=hashes_of(places, folder, split),
            )
            return {
                **{name: {} for name in names},
                f"images of {split}": hashes["images"],
                f"labels of {split}": {
                    "labels": digest_of({"labels": hashes["labels"]})
                },
            }

        return Source(folder, contents)

    def flags(self, split: Split) -> dict[str, str]:
        """With that of classes that are left out."""
        return super().flags(split) | {"classes": "--data.drop-small-classes"}

    def _folder(self, places: Places) -> Path:
        if places.images is None:
            raise InputError(
                f"these data are {self.origin[0]} of yours: expected --images DIR, the "
                "folder that holds train, validation and test"
            )
        return places.images

    def _store(self, places: Places, split: Split, *, mapped: bool) -> data.DenseStore:
        inside = _inside(self._folder(places), split)
        return self.load(inside, places.prepared / "metajax_images", mapped=mapped)


def _inside(folder: Path, split: Split) -> Path:
    check_folder(folder)
    if (inside := split_folder(folder, split)) is not None:
        return inside
    raise InputError(
        f"no {split} split in {folder}: expected {' or '.join(SPLIT_NAMES[split])}, "
        f"got {describe(folder)}"
    )


@dataclass(frozen=True)
class MaskFolderData(SegmentationData, DenseFolderData):
    """Your own images and masks: `--images DIR`."""

    origin = (
        "a folder of images and masks",
        "your own: metajax train masks-folder-3w1s --images DIR",
    )

    def load(self, folder: Path, cache: Path, *, mapped: bool) -> data.DenseStore:
        """From `images/`, `masks/` and `classes.txt`."""
        size = self.size, self.size
        return data.mask_folder(folder, size, cache=cache, mapped=mapped)

    def files(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Of `images/` and `masks/`."""
        return list_pairs(folder)


@dataclass(frozen=True)
class CocoFolderData(DetectionData, DenseFolderData):
    """Your own images and boxes in COCO format: `--images DIR`."""

    origin = (
        "a folder of images and boxes",
        "your own: metajax train boxes-folder-3w1s --images DIR",
    )
    most = 100

    def load(self, folder: Path, cache: Path, *, mapped: bool) -> data.DenseStore:
        """From `images/` and `annotations.json`."""
        return data.coco_folder(
            folder, (self.size, self.size), masks=False, cache=cache, mapped=mapped
        )

    def files(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Those that `annotations.json` names, and that file."""
        source = folder / ANNOTATIONS
        return read_pictures(folder, source).files, [source]
