"""Images of known classes as functions of coordinates."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from metajax import data, losses
from metajax.checks import check_count
from metajax.data.folders.contents import Contents, hash_store
from metajax.errors import InputError
from metajax.experiments.bounds import Count, Ways
from metajax.experiments.families.fields import (
    FieldData,
    GlyphFieldsData,
    OmniglotFieldsData,
    load_omniglot,
)
from metajax.experiments.networks import Network
from metajax.experiments.tasks import Places, Source, Split, Task, model_for
from metajax.metrics import signal_accuracy
from metajax.models.precision import Precision
from metajax.types import Array, LabelledValues, Learner, Model, PyTree, Sampler

SHARES: dict[Split, tuple[float, float]] = {
    "train": (0.0, 0.6),
    "validation": (0.6, 0.8),
    "test": (0.8, 1.0),
}
"""Of the images of each class."""


@dataclass(frozen=True)
class LabelledFieldData(FieldData):
    """Classification of images that networks are fitted to, one a task.

    Classes are the same in training, validation and test: of the images of each, in
    their order, the first 60, the next 20 and the last 20 % are of the three. Tasks
    draw them with replacement; accuracy and its interval are over images.
    """

    same_classes: ClassVar[bool] = True
    shots: Count | None = None
    classes: Ways = 20
    """Number of classes: the first training classes of the data."""

    def whole(self, places: Places) -> Callable[[], data.ImageStore]:
        """All images of the classes, of any split."""
        raise NotImplementedError

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws images, and what is made of them from two starts."""
        from metajax.experiments import field_figures  # loads matplotlib

        field_figures.draw_fields(
            task,
            learner,
            meta,
            self.image_shape,
            to=to,
            values=values_of,
            metric=self.metric,
        )

    def build(self, places: Places) -> Task:
        """Classification, judged by the accuracy over images."""
        self.check_places(places)
        whole = self.whole(places)

        def episodes(split: Split, queries: int) -> Sampler:
            return data.labelled_fields(take_split(whole(), split), self.shots, queries)

        return Task(
            episodes,
            self.classes,
            self.classes,
            self.support,
            {"mean": values_mse},
            signal_accuracy,
            (2,),
            kind="labelled-fields",
            source=self.source(places),
            network=partial(field_for, self.image_shape[-1]),
            is_whole=self.shots is None,
        )


@dataclass(frozen=True)
class OmniglotClassesData(LabelledFieldData, OmniglotFieldsData):
    """Omniglot's characters, classified by a network fitted to each drawing."""

    origin = "labelled fields of Omniglot", OmniglotFieldsData.origin[1]
    places = "archives", "data_dir"

    def whole(self, places: Places) -> Callable[[], data.ImageStore]:
        """The first characters of the training split, each drawn by 20 people."""
        load = load_omniglot(places)
        return lambda: take_first(load("train"), self.classes)

    def source(self, places: Places) -> Source:
        """The prepared data."""
        whole = self.whole(places)

        def contents(split: Split) -> Contents:
            return hash_store(take_split(whole(), split))

        return Source(places.prepared, contents)


@dataclass(frozen=True)
class GlyphClassesData(LabelledFieldData, GlyphFieldsData):
    """Procedural characters, classified by a network fitted to each drawing."""

    origin = "labelled fields of glyphs", "drawn once"
    drawings: Annotated[int, partial(check_count, least=4)] = 100
    """Drawings per class, over all splits; at least 4."""

    def whole(self, places: Places) -> Callable[[], data.ImageStore]:
        """Drawn once for each split."""
        return partial(
            data.glyph_store, "train", self.classes, self.drawings, size=self.size
        )


def take_first(store: data.ImageStore, classes: int) -> data.ImageStore:
    """The first classes of a store.

    Raises:
      InputError: if there are fewer.
    """
    if classes > len(store.names):
        raise InputError(
            f"--data.classes must be at most the {len(store.names)} classes of the "
            f"training data, got {classes}"
        )
    images, counts, names = np.asarray(store.images), store.counts, store.names
    return data.ImageStore(images[:classes], counts[:classes], names[:classes])


def take_split(store: data.ImageStore, split: Split) -> data.ImageStore:
    """The images of a split, of each class of a store.

    Raises:
      InputError: if a class has too few for three splits.
    """
    start, stop = (round(x * int(store.counts.min())) for x in SHARES[split])
    if start == stop:
        raise InputError(
            f"three splits need at least 4 images of each class, got "
            f"{int(store.counts.min())}"
        )
    counts = np.full(len(store.names), stop - start)
    images = np.asarray(store.images)[:, start:stop]
    return data.ImageStore(images, counts, store.names)


def values_of(side: Any) -> Any:
    """The values of outputs or targets, without the label that may be beside them."""
    return side.values if isinstance(side, LabelledValues) else side


def values_mse(outputs: Any, targets: Any) -> Array:
    """The mean squared error of values; a support set's have no label."""
    return losses.mse(values_of(outputs), values_of(targets))


def field_for(
    channels: int, task: Task, network: Network, context: int, precision: Precision
) -> Model:
    """The network from coordinates to values.

    Raises:
      InputError: if the options make none.
    """
    return model_for(task._replace(outputs=channels), network, context, precision)
