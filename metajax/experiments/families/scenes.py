"""Scenes of characters, to be outlined or boxed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from metajax import data
from metajax.data.contents import Contents, hash_store
from metajax.data.dense_store import Targets
from metajax.detection import centre_loss, decode
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import Family
from metajax.experiments.families.omniglot import OmniglotData
from metajax.experiments.networks import Network
from metajax.experiments.tasks import Places, Source, Split, Task
from metajax.losses import pixel_cross_entropy
from metajax.metrics import average_precision, image_iou
from metajax.models import in_precision
from metajax.models.precision import Precision
from metajax.types import Learner, Model, PyTree, Sampler

Store = Callable[[Split], data.ImageStore]
THRESHOLD = 0.3  # of the probability of a class, Cluttered Omniglot's
MOST = 20  # objects that are detected in a scene
SPLITS: dict[Split, Literal["background", "evaluation"]] = {
    "train": "background",
    "validation": "background",
    "test": "evaluation",
}


@dataclass(frozen=True)
class SceneData(Family):
    """Scenes of characters, of which some are to be outlined or boxed."""

    inverted = True
    train_shots: ClassVar[None] = None
    ways: Count = 1
    """Classes a task."""
    shots: Count = 1
    """Support images a class, of one character each."""
    queries: Count = 1
    """Query scenes a class, in training."""
    train_ways: Count | None = None
    """Classes a task in training; by default `ways`."""
    characters: Count = 4
    """Characters of a scene."""
    objects: Count = 1
    """How many of them are of the task's classes."""
    train_objects: Count | None = None
    """The same in training; by default `objects`."""
    same_drawing: bool = False
    """Objects are the very drawings of the support set, turned and coloured anew, as in
    Cluttered Omniglot; other drawings of their classes by default."""
    size: Count = 96
    """Height and width of a scene, in pixels."""
    side: Count = 32
    """Height and width of a support image, and of a character before it is scaled."""
    spread: Count = 1
    """Places that are drawn for each character, which takes the one where it covers
    least of others; 1 lets them overlap at random."""

    def drawings(self, places: Places) -> Store:
        """The drawings of a split."""
        raise NotImplementedError

    def source(self, places: Places) -> Source | None:
        """Where they come from; None if they are computed."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of a scene: height, width, channels."""
        return self.size, self.size, 3

    def episodes(
        self, places: Places, targets: Targets
    ) -> Callable[[Split, int], Sampler]:
        """The samplers by split, of so many scenes a class."""
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


@dataclass(frozen=True)
class SegmentationData(SceneData):
    """Scenes whose characters are to be outlined."""

    def build(self, places: Places) -> Task:
        """Labels of pixels."""
        self.check_places(places)
        return Task(
            self.episodes(places, "masks"),
            self.ways + 1,
            self.number("ways", "train") + 1,
            self.ways * self.shots,
            {"mean": pixel_cross_entropy},
            image_iou(THRESHOLD),
            self.image_shape,
            kind="masks",
            source=self.source(places),
            network=segmenter_for,
        )

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws scenes with what is outlined, and with the truth."""
        from metajax.experiments import dense_figures  # loads matplotlib

        dense_figures.draw_masks(task, learner, meta, queries=queries, to=to)


@dataclass(frozen=True)
class DetectionData(SceneData):
    """Scenes whose characters are to be boxed."""

    stride: Count = 4
    """Rows and columns of pixels of a place, where at most one object has its
    centre."""

    def build(self, places: Places) -> Task:
        """Boxes."""
        self.check_places(places)
        peaks = partial(decode, stride=self.stride, most=MOST)
        return Task(
            self.episodes(places, "boxes"),
            self.ways,
            self.number("ways", "train"),
            self.ways * self.shots,
            {"mean": centre_loss(self.stride)},
            average_precision(self.ways, 0.5, decode=peaks, most=MOST),
            self.image_shape,
            kind="boxes",
            source=self.source(places),
            network=partial(detector_for, self.stride),
        )

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws scenes with the boxes that are detected, and with the true ones."""
        from metajax.experiments import dense_figures  # loads matplotlib

        peaks = partial(decode, stride=self.stride, most=MOST)
        dense_figures.draw_boxes(
            task, learner, meta, queries=queries, to=to, decode=peaks
        )


def segmenter_for(
    task: Task, network: Network, context: int, precision: Precision
) -> Model:
    """The network of the outputs of every pixel.

    Raises:
      InputError: if the options make none.
    """
    *sides, channels = task.input_shape
    shape = (*sides, channels + context)
    return in_precision(network.segmenter(shape, task.outputs), precision)


def detector_for(
    stride: int, task: Task, network: Network, context: int, precision: Precision
) -> Model:
    """The network of the maps of objects.

    Raises:
      InputError: if the options make none.
    """
    *sides, channels = task.input_shape
    shape = (*sides, channels + context)
    return in_precision(network.detector(shape, task.outputs, stride), precision)


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
class OmniglotMasksData(OmniglotDrawings, SegmentationData):
    """Outlines of Omniglot's characters in scenes (Michaelis et al., 2018)."""

    origin = "scenes of Omniglot", OmniglotData.origin[1]


@dataclass(frozen=True)
class OmniglotBoxesData(OmniglotDrawings, DetectionData):
    """Boxes of Omniglot's characters in scenes."""

    origin = "scenes of Omniglot", OmniglotData.origin[1]


@dataclass(frozen=True)
class GlyphMasksData(GlyphDrawings, SegmentationData):
    """Outlines of procedural characters in scenes."""

    origin = "scenes of glyphs", "drawn on demand"


@dataclass(frozen=True)
class GlyphBoxesData(GlyphDrawings, DetectionData):
    """Boxes of procedural characters in scenes."""

    origin = "scenes of glyphs", "drawn on demand"
