"""A folder of the user's own images."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from metajax import data
from metajax.data.folders.contents import Contents, hash_bytes, hash_files
from metajax.data.folders.listing import has_split, list_images, parse_columns
from metajax.errors import InputError
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import ImageData
from metajax.experiments.tasks import Places, Source, Split, Task

SHOWN = 40  # characters of a folder's name, in that of its file of hashes


def hashes_of(places: Places, folder: Path, split: Split) -> Path:
    """The file that keeps the hashes of a split of a folder."""
    whole = folder.resolve()
    place = hash_bytes(os.fsencode(whole))
    kept = f"{whole.name[:SHOWN]}-{split}-{place}.json"
    return places.prepared / "metajax_hashes" / kept


def folder_of(places: Places) -> Path:
    """The folder of the user's images.

    Raises:
      InputError: if it is not given.
    """
    if places.images is None:
        raise InputError(
            "these data are a folder of yours: expected --images DIR, the folder "
            "that holds train/CLASS/*, or train.csv and images/"
        )
    return places.images


def read_images(
    places: Places, split: Split, size: int, *, min_per_class: int = 1
) -> data.ImageStore:
    """The images of a split of the user's folder, squares of a size.

    Raises:
      InputError: if there are none.
    """
    folder = folder_of(places)
    print(f"reading the {split} images of {folder}", file=sys.stderr)
    return data.image_folder(
        folder,
        (size, size),
        split=split,
        columns=parse_columns(places.columns),
        min_per_class=min_per_class,
        cache=places.prepared / "metajax_images",
        mapped=places.stream,
    )


def source_of(places: Places) -> Source:
    """The files of the user's folder.

    Raises:
      InputError: if it is not given.
    """
    folder, columns = folder_of(places), parse_columns(places.columns)

    def contents(split: Split) -> Contents:
        listing = list_images(folder, split, columns)
        root = folder if folder.is_dir() else listing.folder  # of a table
        kept = hashes_of(places, folder, split)
        return hash_files(root, listing.classes, kept=kept)

    def has(split: Split) -> bool:
        return has_split(folder, split, columns)

    return Source(folder, contents, has)


def check_given(places: Places) -> None:
    """Checks that a folder is given, for data that are one.

    Raises:
      InputError: if none is.
    """
    if places.images is None:
        raise InputError(
            "they are in a folder of images of yours: give it by --run-images DIR"
        )


@dataclass(frozen=True)
class OwnImages(ImageData):
    """Images in a folder of the user's: `--images DIR`."""

    queries: Count = 15
    size: Count = 84
    """Height and width that images are resized to, in pixels."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        return self.size, self.size, 3

    def check_at_hand(self, places: Places) -> None:
        """Checks that the folder is given."""
        check_given(places)


@dataclass(frozen=True)
class FolderData(OwnImages):
    """Your own images, in a folder split by class: `--images DIR`."""

    origin = (
        "a folder of images",
        "your own: metajax train miniimagenet-5w1s --images DIR",
    )
    places = "images", "columns", "data_dir", "stream"
    drop_small_classes: bool = False
    """Leave out classes with fewer images than an episode needs (shots and queries),
    and print how many."""

    def build(self, places: Places) -> Task:
        """Classification of the folder's images."""
        self.check_places(places)

        def store(split: Split, needed: int) -> data.ImageStore:
            least = needed if self.drop_small_classes else 1
            return read_images(places, split, self.size, min_per_class=least)

        return self.stored(store, source_of(places), stream=places.stream)

    def flags(self, split: Split) -> dict[str, str]:
        """With those of classes that are left out."""
        left_out = ", small classes left out" if self.drop_small_classes else ""
        return super().flags(split) | {
            "min_per_class": "--data.drop-small-classes",
            "stored": f"the {split} data{left_out}",
        }
