"""CUB-200-2011: photographs of birds."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metajax import data
from metajax.data.folders.contents import Contents, hash_bytes, hash_files
from metajax.data.folders.listing import list_images
from metajax.errors import InputError
from metajax.experiments.families.folder import OwnImages
from metajax.experiments.tasks import Places, Source, Split, Task

CLASSES = 200
# Of the classes in the order of their numbers: 100, 50 and 50.
SPLITS: dict[Split, slice] = {
    "train": slice(0, None, 2),
    "validation": slice(1, None, 4),
    "test": slice(3, None, 4),
}


@dataclass(frozen=True)
class CubData(OwnImages):
    """CUB-200-2011: `--images DIR` is its folder images/, with a folder per species.

    Classes are split as in Chen et al., "A Closer Look at Few-shot Classification",
    ICLR 2019. In the order of their numbers, counted from 0, the even ones are for
    training; the odd ones are alternately for validation and for testing.
    """

    origin = (
        "CUB-200-2011",
        "your own: metajax train cub-5w1s --images CUB_200_2011/images",
    )
    places = "images", "data_dir", "stream"

    def build(self, places: Places) -> Task:
        """Classification of birds."""
        self.check_places(places)
        folder = places.images
        if folder is None:
            raise InputError(
                "CUB-200-2011 is a folder of yours: expected --images DIR, the folder "
                "images/ of its archive"
            )

        def store(split: Split, needed: int) -> data.ImageStore:
            del needed  # every class has more
            print(f"reading the images of {folder}", file=sys.stderr)
            whole = data.image_folder(
                folder,
                (self.size, self.size),
                cache=places.prepared / "metajax_images",
                mapped=places.stream,
            )
            _check_classes(folder, len(whole.names))
            own = SPLITS[split]
            images, counts, names = whole
            assert isinstance(images, np.ndarray)  # as image_folder gives them
            return data.ImageStore(images[own], counts[own], names[own])

        def contents(split: Split) -> Contents:
            place = hash_bytes(os.fsencode(folder.resolve()))
            kept = places.prepared / "metajax_hashes" / f"cub-{split}-{place}.json"
            classes = list_images(folder, None).classes
            _check_classes(folder, len(classes))
            chosen = dict(list(classes.items())[SPLITS[split]])
            return hash_files(folder, chosen, kept=kept)

        return self.stored(store, Source(folder, contents), stream=places.stream)


def _check_classes(folder: Path, count: int) -> None:
    """Refuses a part of the data, whose split would be another."""
    if count != CLASSES:
        raise InputError(
            f"expected the {CLASSES} classes of CUB-200-2011 in {folder}, as their "
            f"split goes by their numbers, got {count}; for other birds, take "
            "miniimagenet-5w1s and a folder of splits"
        )
