"""Omniglot."""

from dataclasses import dataclass
from typing import Literal

from metajax import data
from metajax.data.omniglot import builder_class, prepare_omniglot
from metajax.experiments.families.family import ImageData, Prepared
from metajax.experiments.tasks import Places, Task


@dataclass(frozen=True)
class OmniglotData(ImageData):
    """Omniglot, in Vinyals' split."""

    origin = "Omniglot", "prepared once: metajax data prepare omniglot [--archives DIR]"
    places = "archives", "data_dir", "stream"
    inverted = True
    dataset = Prepared("omniglot", "characters", prepare_omniglot, builder_class)
    image_shape = (28, 28, 1)  # pyright: ignore (a property elsewhere)
    rotations: Literal[1, 4] = 4
    """4 counts each character turned by 0, 90, 180 and 270 degrees as four classes."""

    def build(self, places: Places) -> Task:
        """Classification of characters."""
        self.check_places(places)
        return self.archived(data.omniglot, places, rotations=self.rotations)
