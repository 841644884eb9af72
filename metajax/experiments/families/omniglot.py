"""Omniglot."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from metajax import data
from metajax.data.sets.omniglot import builder_class, prepare_omniglot
from metajax.errors import InputError, argument
from metajax.experiments.families.family import ImageData, Prepared
from metajax.experiments.tasks import Places, Split, Task


@dataclass(frozen=True)
class OmniglotData(ImageData):
    """Omniglot, in Vinyals' split."""

    origin = "Omniglot", "prepared once: metajax data prepare omniglot [--archives DIR]"
    places = "archives", "data_dir", "stream"
    inverted = True
    dataset = Prepared("omniglot", "characters", prepare_omniglot, builder_class)
    of_test = "ways", "shots", "alphabets"
    image_shape = (28, 28, 1)  # pyright: ignore (a property elsewhere)
    rotations: Literal[1, 4] = 4
    """With 4, each character rotated by 0, 90, 180 and 270 degrees counts as four
    classes."""
    alphabets: tuple[str, ...] | None = None
    """Alphabets of the test characters; all by default."""
    training_alphabets: tuple[str, ...] | None = None
    """Alphabets of the training characters; all by default."""

    def build(self, places: Places) -> Task:
        """Classification of characters."""
        self.check_places(places)
        return self.archived(
            data.omniglot, places, rotations=self.rotations, select=self._chosen
        )

    def flags(self, split: Split) -> dict[str, str]:
        """With those of alphabets."""
        names = {"test": "alphabets", "train": "training-alphabets"}
        return super().flags(split) | {
            "alphabets": f"--data.{names.get(split, 'alphabets')}"
        }

    def _chosen(self, store: data.ImageStore, split: Split) -> data.ImageStore:
        """The characters of the alphabets of a split.

        Raises:
          InputError: if there is no such alphabet.
        """
        chosen = {"test": self.alphabets, "train": self.training_alphabets}
        if not (wanted := chosen.get(split)):
            return store
        own = [name.partition("/")[0] for name in store.names]
        if unknown := [name for name in wanted if name not in own]:
            raise InputError(
                f"{argument('alphabets')}: the {split} characters have no alphabet "
                f"{unknown[0]}; they have {', '.join(dict.fromkeys(own))}"
            )
        return store.take(np.flatnonzero(np.isin(own, wanted)))
