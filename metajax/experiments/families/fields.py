"""Images as functions of coordinates."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from metajax import data
from metajax.data.folders.contents import Contents, hash_store
from metajax.experiments.bounds import Count
from metajax.experiments.families.family import Family
from metajax.experiments.families.folder import check_given, read_images, source_of
from metajax.experiments.families.omniglot import OmniglotData
from metajax.experiments.tasks import Places, Source, Split, Task
from metajax.losses import mse
from metajax.metrics import Metric, psnr, rmse
from metajax.types import Array, Learner, PyTree, Sampler

Images = Callable[[Split], data.ImageStore | Sampler]


@dataclass(frozen=True)
class FieldData(Family):
    """Regression of images, one a task, from some of their pixels to the others.

    Attributes:
      metric: of values.
    """

    metric: ClassVar[Metric] = psnr()
    shots: Count | None = 196
    """Support pixels per task; None for all pixels, which then include the query
    pixels."""
    queries: Count = 196
    """Query pixels per task in training."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        raise NotImplementedError

    def images(self, places: Places) -> Images:
        """The images of a split: a store, or a sampler."""
        raise NotImplementedError

    def source(self, places: Places) -> Source | None:
        """Where the images come from; None if they are computed."""
        raise NotImplementedError

    @property
    def support(self) -> int:
        """The number of support pixels."""
        return self.shots or math.prod(self.image_shape[:2])

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws images, and what is made of them from two starts."""
        from metajax.experiments import field_figures  # loads matplotlib

        field_figures.draw_fields(
            task, learner, meta, self.image_shape, to=to, metric=self.metric
        )

    def build(self, places: Places) -> Task:
        """Regression, judged by the metric of its values."""
        self.check_places(places)
        images, channels = self.images(places), self.image_shape[-1]

        def episodes(split: Split, queries: int) -> Sampler:
            return data.fields(images(split), self.shots, queries)

        return Task(
            episodes,
            channels,
            channels,
            self.support,
            {"mean": mse},
            self.metric,
            (2,),
            kind="values",
            source=self.source(places),
        )


@dataclass(frozen=True)
class GlyphFieldsData(FieldData):
    """Procedural characters as functions of coordinates."""

    origin = "fields of glyphs", "drawn on demand"
    value: ClassVar[Callable[[Array], Array]] = staticmethod(data.ink)
    size: Count = 28
    """Height and width of an image, in pixels."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        return self.size, self.size, 1

    def images(self, places: Places) -> Images:
        """Drawn when they are asked for."""

        def images(split: Split) -> Sampler:
            return data.single_glyphs(split=split, size=self.size, value=self.value)

        return images

    def source(self, places: Places) -> Source | None:
        """None: they are computed."""
        return None


@dataclass(frozen=True)
class GlyphDistancesData(GlyphFieldsData):
    """Signed distances to procedural characters, in sides of the image.

    They are negative inside a character.
    """

    origin = "signed distances of glyphs", "drawn on demand"
    value = staticmethod(data.signed_distance)
    metric = replace(rmse, unit="sides")  # of no known peak


@dataclass(frozen=True)
class OmniglotFieldsData(FieldData):
    """Omniglot's characters as functions of coordinates, in Vinyals' split."""

    origin = "fields of Omniglot", OmniglotData.origin[1]
    places = "archives", "data_dir", "stream"
    dataset = OmniglotData.dataset
    image_shape = (28, 28, 1)  # pyright: ignore (a property elsewhere)

    def images(self, places: Places) -> Images:
        """The prepared data."""
        load = load_omniglot(places)

        def images(split: Split) -> data.ImageStore | Sampler:
            return _placed(load(split, mapped=places.stream), places)

        return images

    def source(self, places: Places) -> Source:
        """The prepared data."""
        load = load_omniglot(places)

        def contents(split: Split) -> Contents:
            return hash_store(load(split, mapped=True))

        return Source(places.prepared, contents)


@dataclass(frozen=True)
class FolderFieldsData(FieldData):
    """Your own images as functions of coordinates: `--images DIR`."""

    origin = (
        "fields of a folder of images",
        "your own: metajax train fields-folder --images DIR",
    )
    places = "images", "columns", "data_dir", "stream"
    shots: Count | None = 784
    queries: Count = 784
    size: Count = 56
    """Height and width that images are resized to, in pixels."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        return self.size, self.size, 3

    def check_at_hand(self, places: Places) -> None:
        """Checks that the folder is given."""
        check_given(places)

    def images(self, places: Places) -> Images:
        """Those of the folder of a split."""

        def images(split: Split) -> data.ImageStore | Sampler:
            return _placed(read_images(places, split, self.size), places)

        return images

    def source(self, places: Places) -> Source:
        """The files of the folder."""
        return source_of(places)


def load_omniglot(places: Places) -> Callable[..., data.ImageStore]:
    """`load(split, mapped=...)`, Omniglot from where it is."""
    return partial(data.omniglot, archives=places.archives, data_dir=places.data_dir)


def _placed(store: data.ImageStore, places: Places) -> data.ImageStore | Sampler:
    """A store for the device, or a sampler that reads it as images are drawn."""
    return data.stream_single_images(store) if places.stream else store
