"""The TFDS builder of CIFAR-100. Importing this file imports TFDS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.core.units import Size

from metajax._files.archives import read_tar
from metajax.data.sets._cifar_classes import CLASSES, PAIRS
from metajax.data.sets.downloads import ArchiveBuilder, download
from metajax.errors import InputError

SIZE, CHANNELS = 32, 3
LABELS = 2  # bytes before an image: its superclass and its class
RECORD = LABELS + CHANNELS * SIZE * SIZE
# Images of each class in each file of the archive.
IMAGES = {"cifar-100-binary/train.bin": 500, "cifar-100-binary/test.bin": 100}
FILE = "cifar-100-binary.tar.gz"
# Not the form for Python, which is of pickles. Size and checksum are TFDS's.
URL = f"https://www.cs.toronto.edu/~kriz/{FILE}"
BYTES = 168513733
SHA256 = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"


class Cifar100Classes(ArchiveBuilder):
    """CIFAR-100, one record a class; no TensorFlow needed."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Training images before test images."}
    url_infos = {URL: checksums.UrlInfo(Size(BYTES), SHA256, FILE)}

    def _read_at(self, place: Path) -> np.ndarray:
        return read_archive(place if place.is_file() else place / FILE)

    def _info(self) -> tfds.core.DatasetInfo:
        shape = sum(IMAGES.values()), SIZE, SIZE, CHANNELS
        features = tfds.features.FeaturesDict(
            {
                "superclass": tfds.features.Text(),
                "class": tfds.features.Text(),
                "images": tfds.features.Tensor(shape=shape, dtype=np.uint8),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="CIFAR-100 by class: 600 images of each of 100.",
            features=features,
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        images = self._local
        if images is None:
            paths = download(dl_manager, "CIFAR-100", {FILE: URL}, self._otherwise)
            images = read_archive(paths[FILE])
        return {"classes": self._generate_examples(images)}

    def _generate_examples(self, images: np.ndarray) -> Iterator:
        for key, ((group, name), each) in enumerate(zip(PAIRS, images)):
            yield key, {"superclass": group, "class": name, "images": each}


def read_archive(path: Path) -> np.ndarray:
    """Reads CIFAR-100's binary archive.

    Returns:
      `uint8[100, 600, 32, 32, 3]`, classes in the order of `PAIRS`.

    Raises:
      InputError: if the file is missing, damaged, or not that archive.
    """
    mend = f"download {FILE} from {URL}"
    if not path.is_file():
        raise InputError(
            f"no {path.name} in {path.parent}: expected the folder that holds {FILE}; "
            f"{mend}"
        )
    sizes = {name: len(PAIRS) * count * RECORD for name, count in IMAGES.items()}
    try:
        files = read_tar(path, sizes)
        parts = [_images(files[name], count) for name, count in IMAGES.items()]
    except Exception as error:  # gzip and tarfile raise almost anything
        raise InputError(
            f"{path} is truncated, damaged or not CIFAR-100's binary archive "
            f"({error}); {mend}"
        ) from error
    return np.concatenate(parts, axis=1)


def _images(content: bytes, count: int) -> np.ndarray:
    """The images of a file by class, `uint8[100, count, 32, 32, 3]`.

    Raises:
      ValueError: if its labels are not CIFAR-100's, or not `count` of each class.
    """
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    superclasses, classes = records[:, 0], records[:, 1]
    if np.any(np.bincount(classes, minlength=256)[: len(PAIRS)] != count):
        raise ValueError(f"its labels are not {count} of each class")
    labels, groups = _labels()
    order = np.argsort(classes, kind="stable").reshape(len(PAIRS), count)[labels]
    if np.any(superclasses[order] != groups[:, None]):
        raise ValueError("its classes are not in the superclasses of CIFAR-100")
    pixels = records[order, LABELS:].reshape(*order.shape, CHANNELS, SIZE, SIZE)
    return np.moveaxis(pixels, 2, -1)


def _labels() -> tuple[np.ndarray, np.ndarray]:
    """The labels of each of `PAIRS`: of its class, and of its superclass."""
    alphabetical, groups = sorted(name for _, name in PAIRS), list(CLASSES)
    return (
        np.array([alphabetical.index(name) for _, name in PAIRS]),
        np.array([groups.index(group) for group, _ in PAIRS]),
    )
