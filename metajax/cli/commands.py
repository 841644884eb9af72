"""The commands that take a run or nothing: evaluate, label, study, data and doctor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metajax.checks import check_count, check_seed
from metajax.cli.programs import Programs
from metajax.errors import InputError, naming
from metajax.experiments.families import FAMILIES, PREPARED, Family
from metajax.experiments.tasks import Places, Split
from metajax.experiments.tent import Tent

FLAGS = "tasks", "steps", "queries", "inductive-queries", "seed"
TASKS = "ways", "shots", "alphabets"
DENSE = "masks", "boxes"  # flags of labels that lie in a picture
NAMES: Any = Literal[tuple(PREPARED)]  # pyright: ignore (built from the table)


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a checkpoint of a run, by its own protocol or another."""

    run: tyro.conf.Positional[Path]
    """The run's directory. Its evaluation.json is of its own protocol, data and last
    meta-step; any other evaluation has a file whose name says what is different."""
    checkpoint: Literal["last", "best"] = "last"
    """The newest, or that of the best validation."""
    split: Split = "test"
    """Which classes."""
    ways: int | None = None
    """Classes a task, for a learner that takes any number of them; this and what
    follows are by default as the run was configured."""
    shots: int | None = None
    """Support examples a class (or a task, for regression)."""
    tasks: int | None = None
    """Number of tasks."""
    steps: int | None = None
    """Inner steps, for a learner with an inner loop."""
    queries: int | None = None
    """Query examples a class (or a task, for regression)."""
    inductive_queries: int | None = None
    """Query examples a task that are also predicted independently of the others."""
    seed: int | None = None
    """Random seed for sampling tasks."""
    alphabets: tuple[str, ...] | None = None
    """Alphabets of the test characters, of Omniglot."""
    on: Annotated[str | None, tyro.conf.arg(metavar="PRESET")] = None
    """Test tasks of another preset's data, with the ways and shots of the run, and its
    images resized, grey or coloured as the run's were. --images DIR alone is a folder
    of images by class, also for a run of other data that labels classes. The result is
    evaluation-on-*.json."""
    inverted: bool | None = None
    """Whether inputs are inverted, x ← 1 - x. For runs trained on bright ink,
    photographs are inverted by default; this flag says otherwise."""
    tent: Tent = Tent()
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()

    def __call__(self) -> None:
        """Evaluates."""
        from metajax.experiments.run import Changes, evaluate_run

        if self.alphabets is not None and self.split != "test":
            raise InputError("--alphabets are of test characters; leave out --split")
        names = [name.replace("-", "_") for name in FLAGS]
        settings = {n: v for n in names if (v := getattr(self, n)) is not None}
        flags = {
            "ways": "--ways",
            "shots": "--shots",
            "queries": "--queries",
            "images_per_class": "--shots or --queries",
            "min_per_class": "--data.drop-small-classes of metajax train",
            "--data.ways": "--ways",
            "--data.shots": "--shots",
            "alphabets": "--alphabets",
            **{f"--evaluation.{name}": f"--{name}" for name in FLAGS},
        }
        with self.programs.kept(self.places.prepared), naming(flags):
            tasks = {name: getattr(self, name) for name in TASKS}
            changes = Changes(settings, tasks, self.on, self.inverted, self.tent)
            evaluate_run(
                self.run, changes, self.split, self.places, kept=self.checkpoint
            )


@dataclass(frozen=True)
class Prepare:
    """Prepare a data set once, from the network or from local archives."""

    name: tyro.conf.Positional[NAMES]  # pyright: ignore
    """Which data set."""
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()

    def __call__(self) -> None:
        """Prepares."""
        dataset = PREPARED[self.name]
        places = self.places
        builder = dataset.prepare(archives=places.archives, data_dir=places.data_dir)
        for split, info in builder.info.splits.items():
            print(f"{self.name} {split}: {info.num_examples} {dataset.examples}")
        print(f"prepared in {builder.data_dir}")


@dataclass(frozen=True)
class List:
    """List the data sets and where they come from."""

    def __call__(self) -> None:
        """Lists."""
        width = max(len(name) for name, _ in map(_origin, FAMILIES)) + 2
        for name, origin in map(_origin, FAMILIES):
            print(f"{name:<{width}}{origin}")


def _origin(kind: type[Family]) -> tuple[str, str]:
    return kind.origin


@dataclass(frozen=True)
class Data:
    """List data sets, or prepare one."""

    action: Annotated[
        Annotated[Prepare, tyro.conf.subcommand("prepare")]
        | Annotated[List, tyro.conf.subcommand("list")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        """Does it."""
        self.action()


@dataclass(frozen=True)
class Study:
    """Look inside a run's adaptation: one page of figures, each with how to read it."""

    run: tyro.conf.Positional[Path]
    """The run's directory; the page is study/report.html, or study-*/ of other data."""
    tasks: int = 100
    """Validation tasks to look at."""
    seed: int = 0
    """Random seed for sampling validation tasks."""
    only: tuple[str, ...] = ()
    """Some of the diagnostics, by name; all by default."""
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()

    def __call__(self) -> None:
        """Studies."""
        from metajax.experiments.study import study_run

        check_count("--tasks", self.tasks, least=2)
        check_seed("--seed", self.seed)
        study_run(
            self.run, self.places, tasks=self.tasks, seed=self.seed, only=self.only
        )


@dataclass(frozen=True)
class Label:
    """Label a folder of pictures from a few labelled ones, with a trained run.

    Pictures may have any size; they are resized as the run's were. Classifiers of
    Omniglot and of glyphs read them as dark ink on white paper, and runs of their
    scenes as bright ink on black. A run of segmentation outlines what is in them
    (--masks), and one of detection boxes it (--boxes).
    """

    run: tyro.conf.Positional[Path | None] = None
    """The run's directory; leave it out with --from."""
    support: Path | None = None
    """Folder of labelled pictures, CLASS/*: at least two classes, of any number of
    pictures each. With --masks, a folder of images/, masks/ (PNG, a value a class) and
    classes.txt; with --boxes, of images/ and annotations.json, in COCO's form."""
    columns: str | None = None
    """Of a table of labelled pictures in place of the folder: which columns are which,
    as file=photo,label=breed, if they are not called filename and label."""
    images: Path | None = None
    """Folder of the pictures to label, at any depth."""
    out: Path | None = None
    """CSV file to write: file, label, confidence, runner-up and its confidence.
    Pictures that cannot be read are listed in a file beside it."""
    masks: Path | None = None
    """Folder to write in place of --out, of a run of segmentation: masks/*.png, of the
    size of each picture, the value k for line k of classes.txt."""
    boxes: Path | None = None
    """File to write in place of --out, of a run of detection: boxes in COCO's form, in
    pixels of each picture, with scores of at least 0.05; --html shows those of 0.3."""
    html: Path | None = None
    """HTML page to write: the pictures by label, the least confident first, with their
    outlines or boxes."""
    save: Path | None = None
    """File to save the taught learner in, for --from."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File of --save to label with, instead of a run and --support."""
    export: Path | None = None
    """File to export the taught learner to: a StableHLO program that runs without
    metajax."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint of the run: the newest, or that of the best validation."""
    archives: Path | None = None
    """For a run of Omniglot: folder of images_background.zip and images_evaluation.zip,
    to estimate accuracy on the run's validation classes too."""
    data_dir: Path | None = None
    """Folder of the run's prepared data, to estimate accuracy on its validation classes
    too; TFDS's own by default."""
    run_images: Path | None = None
    """The folder of images that the run was trained on, to estimate accuracy on its
    validation classes too."""
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()

    def __call__(self) -> None:
        """Labels."""
        kept = self.programs.kept(Places(data_dir=self.data_dir).prepared)
        dense = [kind for kind in DENSE if getattr(self, kind) is not None]
        if dense:
            self._check_dense(dense)
            self._mark(dense[0], kept)
        else:
            self._label(kept)

    def _check_dense(self, dense: list[str]) -> None:
        """Refuses what would be ignored with `--masks` or `--boxes`."""
        if len(dense) > 1:
            raise InputError("--masks and --boxes are of different runs; give one")
        others = "out", "columns", "save", "source", "export", "archives", "run_images"
        for name in others:
            if getattr(self, name) is not None:
                flag = "from" if name == "source" else name.replace("_", "-")
                raise InputError(f"--{flag} is not for --{dense[0]}; leave it out")

    def _mark(self, kind: Any, kept: Any) -> None:
        """Outlines, or boxes."""
        from metajax.experiments.dense_outputs import DenseFiles
        from metajax.experiments.labelled_dense import dense_learner, teach_dense_run

        if self.run is None or self.support is None or self.images is None:
            raise InputError(
                f"--{kind} needs a run's directory, --support DIR and --images DIR"
            )
        learner = dense_learner(self.run, kind)
        out = getattr(self, kind)
        files = DenseFiles(learner.targets, self.images, out, self.html)
        images = files.check()
        with files.stdout_apart(), kept:
            labeller = teach_dense_run(self.run, learner, self.support, self.checkpoint)
            print(*labeller.expected, sep="\n")
            files.write(labeller, images)

    def _label(self, kept: Any) -> None:
        from metajax.experiments.label_outputs import LabelFiles

        paths = self.images, self.out, self.html, self.save, self.export
        files = LabelFiles(*paths, self.source)
        images = files.check()
        with files.stdout_apart(), kept:
            labeller = self._labeller()
            print(*labeller.expected, sep="\n")
            files.write(labeller, images)

    def _labeller(self) -> Any:
        from metajax.data.listing import parse_columns
        from metajax.experiments.labelled import load_labeller, teach_run

        places = Places(self.archives, self.data_dir, self.run_images)
        if self.source is None and self.run and self.support:
            columns = parse_columns(self.columns)
            return teach_run(
                self.run, self.support, places, kept=self.checkpoint, columns=columns
            )
        if self.source is None:
            raise InputError(
                "expected a run's directory and --support DIR, or --from FILE"
            )
        if self.run or self.support or self.columns or places != Places():
            raise InputError(
                "--from FILE holds the run and its classes; leave out the run, its "
                "data, --support and --columns"
            )
        return load_labeller(self.source)


@dataclass(frozen=True)
class Doctor:
    """Say what is installed, on which devices, and test the gradient, in a minute."""

    data_dir: Path | None = None
    """Folder of prepared data; TFDS's own by default."""

    def __call__(self) -> None:
        """Examines."""
        from metajax.cli.doctor import doctor

        if not doctor(self.data_dir):
            raise InputError(
                "something above is wrong; report it with all of the above"
            )
