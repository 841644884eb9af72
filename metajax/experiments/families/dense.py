"""What families of dense tasks have in common: masks to outline, boxes to detect."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from metajax.data.dense.store import Targets
from metajax.detection import CentreMaps, Detections, centre_loss, decode
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import Family
from metajax.experiments.networks import Network
from metajax.experiments.tasks import Places, Source, Split, Task
from metajax.losses import UNLABELLED, pixel_cross_entropy
from metajax.metrics import Metric, average_precision, image_iou
from metajax.models import in_precision
from metajax.models.precision import Precision
from metajax.types import Learner, Model, PyTree, Sampler

if TYPE_CHECKING:
    from metajax.labelling import DenseTargets


@dataclass(frozen=True)
class DenseData(Family):
    """Images in which objects are outlined or boxed."""

    train_shots: ClassVar[None] = None
    ways: Count = 1
    """Classes per task."""
    shots: Count = 1
    """Support images per class."""
    queries: Count = 1
    """Query images per class in training."""
    train_ways: Count | None = None
    """Classes per task in training; by default as in --data.ways."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        raise NotImplementedError

    def episodes(
        self, places: Places, targets: Targets
    ) -> Callable[[Split, int], Sampler]:
        """The samplers by split, of so many query images a class."""
        raise NotImplementedError

    def source(self, places: Places) -> Source | None:
        """Where the images come from; None if they are computed."""
        raise NotImplementedError

    def targets(self) -> "DenseTargets":
        """How labelling treats what is outlined or boxed."""
        raise NotImplementedError


@dataclass(frozen=True)
class SegmentationData(DenseData):
    """Images in which objects are outlined."""

    metric: ClassVar[Metric] = image_iou(ignore=UNLABELLED)

    def build(self, places: Places) -> Task:
        """Labels of pixels."""
        self.check_places(places)
        return Task(
            self.episodes(places, "masks"),
            self.ways + 1,
            self.number("ways", "train") + 1,
            self.ways * self.shots,
            {"mean": pixel_cross_entropy},
            self.metric,
            self.image_shape,
            kind="masks",
            source=self.source(places),
            network=segmenter_for,
        )

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws images with what is outlined, and with the truth."""
        from metajax.experiments import dense_figures  # loads matplotlib

        dense_figures.draw_masks(task, learner, meta, queries=queries, to=to)

    def targets(self) -> "DenseTargets":
        """Masks."""
        from metajax.labelling import masks  # loads SciPy

        return masks()


@dataclass(frozen=True)
class Peaks:
    """`decode` at a stride; equal ones share a compiled program."""

    stride: int
    most: int

    def __call__(self, outputs: CentreMaps) -> Detections:
        """The detections of the maps of a detector."""
        return decode(outputs, self.stride, self.most)


@dataclass(frozen=True)
class DetectionData(DenseData):
    """Images in which objects are boxed."""

    most: ClassVar[int] = 20
    """Objects that are detected in an image, at most."""
    stride: Count = 4
    """Side of a cell of the detector's output maps, in pixels; at most one object of
    each class is detected per cell."""

    @property
    def peaks(self) -> "Peaks":
        """From the maps of a detector to its detections."""
        return Peaks(self.stride, self.most)

    def build(self, places: Places) -> Task:
        """Boxes."""
        self.check_places(places)
        return Task(
            self.episodes(places, "boxes"),
            self.ways,
            self.number("ways", "train"),
            self.ways * self.shots,
            {"mean": centre_loss(self.stride)},
            average_precision(self.ways, 0.5, decode=self.peaks, most=self.most),
            self.image_shape,
            kind="boxes",
            source=self.source(places),
            network=partial(detector_for, self.stride),
        )

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws images with the boxes that are detected, and with the true ones."""
        from metajax.experiments import dense_figures  # loads matplotlib

        dense_figures.draw_boxes(
            task, learner, meta, queries=queries, to=to, decode=self.peaks
        )

    def targets(self) -> "DenseTargets":
        """Boxes."""
        from metajax.labelling import boxes  # loads SciPy

        return boxes(self.peaks, self.most)


def segmenter_for(
    task: Task, network: Network, context: int, precision: Precision
) -> Model:
    """The network of the outputs of every pixel.

    Raises:
      InputError: if the options make none.
    """
    model = network.segmenter(task.shape_with(context), task.outputs)
    return in_precision(model, precision)


def detector_for(
    stride: int, task: Task, network: Network, context: int, precision: Precision
) -> Model:
    """The network of the maps of objects.

    Raises:
      InputError: if the options make none.
    """
    model = network.detector(task.shape_with(context), task.outputs, stride)
    return in_precision(model, precision)
