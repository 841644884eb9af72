"""Scenes of characters, to be outlined or boxed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from metajax import data
from metajax.data.dense.store import Targets
from metajax.data.folders.contents import Contents, hash_store
from metajax.experiments.bounds import Count
from metajax.experiments.families.dense import (
    DenseData,
    DetectionData,
    SegmentationData,
)
from metajax.experiments.families.omniglot import OmniglotData
from metajax.experiments.tasks import Places, Source, Split
from metajax.metrics import image_iou
from metajax.types import Sampler

Store = Callable[[Split], data.ImageStore]
OVERLAP = image_iou(0.3)  # the threshold of Cluttered Omniglot's authors
SPLITS: dict[Split, Literal["background", "evaluation"]] = {
    "train": "background",
    "validation": "background",
    "test": "evaluation",
}


@dataclass(frozen=True)
class SceneData(DenseData):
    """Scenes of characters, some of which are outlined or boxed.

    A support image shows one character.
    """

    characters: Count = 4
    """Characters per scene."""
    objects: Count = 1
    """Characters per scene that belong to the task's classes."""
    train_objects: Count | None = None
    """Characters per training scene that belong to the task's classes; by default as in
    --data.objects."""
    same_drawing: bool = False
    """Objects are the support set's own drawings, rotated and recoloured, as in
    Cluttered Omniglot; by default they are other drawings of the same classes."""
    size: Count = 96
    """Height and width of a scene, in pixels."""
    side: Count = 32
    """Height and width of a support image, and of a character before scaling, in
    pixels."""
    spread: Count = 1
    """Random places tried for each character, of which it takes the one that covers
    earlier characters least; 1 lets characters overlap at random."""

    def drawings(self, places: Places) -> Store:
        """The drawings of a split."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of a scene: height, width, channels."""
        return self.size, self.size, 3

    def episodes(
        self, places: Places, targets: Targets
    ) -> Callable[[Split, int], Sampler]:
        """Of scenes."""
        drawings = self.drawings(places)
        page = data.Page(self.size, self.side, places=self.spread)

        def episodes(split: Split, queries: int) -> Sampler:
            return data.scenes(
                drawings(split),
                self.number("ways", split),
                self.shots,
                queries,
                targets=targets,
                characters=self.characters,
                objects=self.number("objects", split),
                same_drawing=self.same_drawing,
                page=page,
            )

        return episodes

    def flags(self, split: Split) -> dict[str, str]:
        """With those of scenes."""
        training = split == "train" and self.train_objects
        return super().flags(split) | {
            "characters": "--data.characters",
            "objects": f"--data.{'train-' if training else ''}objects",
        }


class OmniglotDrawings:
    """Omniglot's characters: alphabets of the test are unseen in training.

    As Cluttered Omniglot has it, validation is of the training's characters.
    """

    places = "archives", "data_dir"
    dataset = OmniglotData.dataset

    def drawings(self, places: Places) -> Store:
        """Of the split of Omniglot's authors."""
        load = partial(
            data.omniglot, archives=places.archives, data_dir=places.data_dir
        )
        return lambda split: load(SPLITS[split])

    def source(self, places: Places) -> Source | None:
        """The prepared data."""
        drawings = self.drawings(places)

        def contents(split: Split) -> Contents:
            return hash_store(drawings(split))

        return Source(places.prepared, contents)


class GlyphDrawings:
    """Procedural characters: 200 classes of 20 drawings a split."""

    def drawings(self, places: Places) -> Store:
        """Drawn when they are asked for."""
        return data.glyph_store

    def source(self, places: Places) -> Source | None:
        """None: they are computed."""
        return None


@dataclass(frozen=True)
class OmniglotMasksData(OmniglotDrawings, SegmentationData, SceneData):
    """Outlines of Omniglot's characters in scenes (Michaelis et al., 2018)."""

    metric = OVERLAP
    origin = "scenes of Omniglot", OmniglotData.origin[1]


@dataclass(frozen=True)
class OmniglotBoxesData(OmniglotDrawings, DetectionData, SceneData):
    """Boxes of Omniglot's characters in scenes."""

    origin = "scenes of Omniglot", OmniglotData.origin[1]


@dataclass(frozen=True)
class GlyphMasksData(GlyphDrawings, SegmentationData, SceneData):
    """Outlines of procedural characters in scenes."""

    metric = OVERLAP
    origin = "scenes of glyphs", "drawn on demand"


@dataclass(frozen=True)
class GlyphBoxesData(GlyphDrawings, DetectionData, SceneData):
    """Boxes of procedural characters in scenes."""

    origin = "scenes of glyphs", "drawn on demand"
