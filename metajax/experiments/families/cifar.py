"""CIFAR-100, in the splits of few-shot learning."""

from dataclasses import dataclass
from typing import Literal

from metajax import data
from metajax.data.sets.cifar import builder_class, prepare_cifar100
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import ImageData, Prepared
from metajax.experiments.tasks import Places, Task

LOADERS = {"cifar-fs": data.cifar_fs, "fc100": data.fc100}


@dataclass(frozen=True)
class CifarData(ImageData):
    """CIFAR-100 (32x32), split by class for few-shot learning."""

    origin = (
        "CIFAR-100",
        "prepared once: metajax data prepare cifar100 [--archives DIR]",
    )
    places = "archives", "data_dir", "stream"
    dataset = Prepared("cifar100", "classes", prepare_cifar100, builder_class)
    image_shape = (32, 32, 3)  # pyright: ignore (a property elsewhere)
    queries: Count = 15
    splits: Literal["cifar-fs", "fc100"] = "cifar-fs"
    """How classes are split: at random (CIFAR-FS), or by superclass (FC100)."""

    def build(self, places: Places) -> Task:
        """Classification of photographs."""
        self.check_places(places)
        return self.archived(LOADERS[self.splits], places)
