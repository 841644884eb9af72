"""What all families of tasks have in common, and those of images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from metajax import data
from metajax.data.folders.contents import Contents, hash_store
from metajax.data.sets.preparing import make_builder
from metajax.errors import InputError, naming
from metajax.experiments.bounds import Count, Ways
from metajax.experiments.tasks import LossName, Places, Source, Split, Task
from metajax.losses import cross_entropy, cross_entropy_over_ways
from metajax.metrics import accuracy
from metajax.types import Learner, Loss, PyTree, Sampler

CLASSIFICATION: dict[LossName, Loss] = {
    "mean": cross_entropy,
    "sum-over-ways": cross_entropy_over_ways,
}


class Prepared(NamedTuple):
    """A data set that is prepared once.

    Attributes:
      name: as `metajax data prepare` takes it.
      examples: what one record of it is, in the plural.
      prepare: `prepare(archives=..., data_dir=...)`, which gives its builder.
      builder_class: gives the class of the builder.
    """

    name: str
    examples: str
    prepare: Callable[..., Any]
    builder_class: Callable[[], Any]

    def find(self, data_dir: Path | None) -> Path:
        """The folder of the prepared data.

        Raises:
          InputError: if they are not prepared, or a package is missing.
        """
        builder = make_builder(
            self.name, self.builder_class, archives=None, data_dir=data_dir
        )
        if not builder.is_prepared():
            more = (
                ", or --data-dir DIR if they are elsewhere"
                if data_dir is None
                else f" --data-dir {data_dir}"
            )
            raise InputError(f"not prepared: metajax data prepare {self.name}{more}")
        return Path(builder.data_dir)


def all_classes(store: data.ImageStore, split: Split) -> data.ImageStore:
    """The store, whole."""
    return store


class Family:
    """A family of tasks; its fields are its options.

    Attributes:
      origin: its name, and where its data come from, for `metajax data list`.
      places: the fields of `Places` that it takes.
      inverted: whether dark pixels of a picture are bright ones of an input.
      dataset: the data set that it needs, if that is prepared once.
      same_classes: whether labels are those of the classes that a run was trained on,
        so that no other data have them.
      of_test: the options of test tasks that the name of a result says, where an
        evaluation changes them.
    """

    origin: ClassVar[tuple[str, str]]
    places: ClassVar[tuple[str, ...]] = ()
    inverted: ClassVar[bool] = False
    dataset: ClassVar[Prepared | None] = None
    same_classes: ClassVar[bool] = False
    of_test: ClassVar[tuple[str, ...]] = ("ways", "shots")

    def build(self, places: Places) -> Task:
        """The task.

        Raises:
          InputError: if a place is given that these data do not come from, or one is
            wanting.
        """
        raise NotImplementedError

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws an episode and its predictions, `adaptation.png` in a folder."""
        raise NotImplementedError

    def presented(
        self, task: Task, shape: tuple[int, ...], *, inverted: bool = False
    ) -> Task:
        """The task for a network that was trained on inputs of another family.

        Args:
          task: of this family.
          shape: of an input of the network.
          inverted: whether dark pixels become bright ones.

        Raises:
          InputError: if such inputs cannot be made.
        """
        if inverted:
            raise InputError(
                f"only images of classes are inverted, and {self.origin[0]} has "
                f"{task.kind}; leave out --inverted"
            )
        if task.input_shape != shape:
            raise InputError(
                f"the run's network takes inputs of shape {shape}, and those of "
                f"{self.origin[0]} have {task.input_shape}; choose another preset"
            )
        return task

    def check_places(self, places: Places) -> None:
        """Refuses places that would be ignored.

        Raises:
          InputError: if there is one.
        """
        for name, value in vars(places).items():
            if value and name not in self.places:
                raise InputError(
                    f"--{name.replace('_', '-')} is not for {self.origin[0]}; leave it "
                    "out, or choose a preset of other data"
                )

    def check_at_hand(self, places: Places) -> None:
        """Checks that the data can be read without preparing any.

        Raises:
          InputError: if they cannot.
        """
        if self.dataset is not None and places.archives is None:
            self.dataset.find(places.data_dir)

    def flags(self, split: Split) -> dict[str, str]:
        """What errors call the arguments of `metajax.data` that the options set."""
        training = split == "train"
        own = {
            name: f"train-{name}"
            if training and getattr(self, f"train_{name}", None)
            else name
            for name in ("ways", "shots")
        }
        queries = "--data.queries" if training else "--evaluation.queries"
        return {
            "ways": f"--data.{own['ways']}",
            "shots": f"--data.{own['shots']}",
            "queries": queries,
            "images_per_class": f"--data.{own['shots']} or {queries}",
            "size": "--data.size",
            "height": "--data.size",
            "width": "--data.size",
            "store": f"the {split} data",
            "stored": f"the {split} data",
        }

    def number(self, name: str, split: Split) -> Any:
        """A number of the tasks of a split, such as "shots"; training may have another.

        Raises:
          AttributeError: if the family has none of that name.
        """
        trained = getattr(self, f"train_{name}", None) if split == "train" else None
        return trained or getattr(self, name)


@dataclass(frozen=True)
class ImageData(Family):
    """Classification of images."""

    ways: Ways = 5
    """Classes per task."""
    shots: Count = 1
    """Support images per class."""
    train_shots: Count | None = None
    """Support images per class in training; by default as in --data.shots. Reptile uses
    more."""
    queries: Count = 5
    """Query images per class in training."""
    train_ways: Ways | None = None
    """Classes per task in training; by default as in --data.ways. Only for learners
    that take any number of classes; prototypical networks use more."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        raise NotImplementedError

    def draw(
        self, task: Task, learner: Learner, meta: PyTree, *, queries: int, to: Path
    ) -> None:
        """Draws images and what they are taken for."""
        from metajax.experiments import figures  # loads matplotlib

        figures.draw_images(task, learner, meta, queries=queries, to=to)

    def presented(
        self, task: Task, shape: tuple[int, ...], *, inverted: bool = False
    ) -> Task:
        """The task, its images resized, grey or coloured, and inverted as asked for."""
        if task.input_shape == shape and not inverted:
            return task
        if len(shape) != 3 or {shape[2], task.input_shape[2]} - {1, 3}:
            return super().presented(task, shape)

        def episodes(split: Split, queries: int) -> Sampler:
            drawn = task.episodes(split, queries)
            return data.converted(drawn, shape, inverted=inverted)

        return task._replace(episodes=episodes, input_shape=shape)

    def classification(self, episodes: Callable[[Split, int], Sampler]) -> Task:
        """The task of a function that gives its samplers."""
        splits: tuple[Split, ...] = ("train", "test")
        return Task(
            episodes,
            self.ways,
            self.number("ways", "train"),
            max(self.number("ways", s) * self.number("shots", s) for s in splits),
            CLASSIFICATION,
            accuracy,
            self.image_shape,
            kind="classes",
        )

    def stored(
        self,
        store: Callable[[Split, int], data.ImageStore],
        source: Source,
        *,
        rotations: int = 1,
        stream: bool,
    ) -> Task:
        """The task of images in stores.

        Args:
          store: `store(split, needed)`, the images of a split, of which an episode
            takes `needed` a class.
          source: where they come from.
          rotations: see `metajax.data.image_episodes`.
          stream: whether they are read as they are drawn.
        """
        sampler = data.stream_episodes if stream else data.image_episodes

        def episodes(split: Split, queries: int) -> Sampler:
            ways, shots = self.number("ways", split), self.number("shots", split)
            images = store(split, shots + queries)
            return sampler(images, ways, shots, queries, rotations=rotations)

        def joint(examples: int) -> data.JointBatches:
            with naming(self.flags("train")):
                images = store("train", self.number("shots", "train") + self.queries)
            return data.joint_batches(images, examples, rotations=rotations)

        def whole(split: Split) -> data.ImageStore:
            with naming(self.flags(split)):
                return store(split, self.number("shots", split) + 1)

        task = self.classification(episodes)
        return task._replace(joint=joint, store=whole, source=source)

    def archived(
        self,
        load: Callable[..., data.ImageStore],
        places: Places,
        *,
        rotations: int = 1,
        select: Callable[[data.ImageStore, Split], data.ImageStore] = all_classes,
    ) -> Task:
        """The task of images that are prepared from archives.

        Args:
          load: `load(split, ...)`, all of the images of a split.
          places: where they are.
          rotations: see `metajax.data.image_episodes`.
          select: `select(store, split)`, those that are drawn from.
        """
        load = partial(load, archives=places.archives, data_dir=places.data_dir)

        def contents(split: Split) -> Contents:
            images = load(split, mapped=True)
            # All of the others: an evaluation may take any of their classes.
            return hash_store(select(images, split) if split == "train" else images)

        def store(split: Split, needed: int) -> data.ImageStore:
            del needed  # all classes have equally many
            return select(load(split, mapped=places.stream), split)

        return self.stored(
            store,
            Source(places.prepared, contents),
            rotations=rotations,
            stream=places.stream,
        )
