"""Procedural characters."""

from dataclasses import dataclass

from metajax import data
from metajax.experiments.families.family import ImageData
from metajax.experiments.tasks import Places, Split, Task
from metajax.types import Sampler


@dataclass(frozen=True)
class GlyphsData(ImageData):
    """Procedural characters, drawn on demand."""

    origin = "glyphs", "drawn on demand"
    inverted = True
    image_shape = (28, 28, 1)  # pyright: ignore (a property elsewhere)

    def build(self, places: Places) -> Task:
        """Classification of characters."""
        self.check_places(places)

        def episodes(split: Split, queries: int) -> Sampler:
            ways, shots = self.number("ways", split), self.number("shots", split)
            return data.glyphs(ways, shots, queries, split=split)

        return self.classification(episodes)
