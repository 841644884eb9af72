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

FLAGS = "tasks", "steps", "queries", "inductive-queries", "seed"
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
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()

    def __call__(self) -> None:
        """Evaluates."""
        from metajax.experiments.run import evaluate_run

        names = [name.replace("-", "_") for name in FLAGS]
        changes = {n: v for n in names if (v := getattr(self, n)) is not None}
        flags = {
            "ways": "--ways",
            "shots": "--shots",
            "queries": "--queries",
            "images_per_class": "--shots or --queries",
            "min_per_class": "--data.drop-small-classes of metajax train",
            "--data.ways": "--ways",
            "--data.shots": "--shots",
            **{f"--evaluation.{name}": f"--{name}" for name in FLAGS},
        }
        with self.programs.kept(self.places.prepared), naming(flags):
            evaluate_run(
                self.run,
                changes,
                self.split,
                self.places,
                kept=self.checkpoint,
                ways=self.ways,
                shots=self.shots,
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

    Pictures may have any size; they are resized as the run's were. Runs of Omniglot and
    of glyphs read them in grey, as dark ink on white paper.
    """

    run: tyro.conf.Positional[Path | None] = None
    """The run's directory; leave it out with --from."""
    support: Path | None = None
    """Folder of labelled pictures, CLASS/*: at least two classes, of any number of
    pictures each."""
    columns: str | None = None
    """Of a table of labelled pictures in place of the folder: which columns are which,
    as file=photo,label=breed, if they are not called filename and label."""
    images: Path | None = None
    """Folder of the pictures to label, at any depth."""
    out: Path | None = None
    """CSV file to write: file, label, confidence, runner-up and its confidence.
    Pictures that cannot be read are listed in a file beside it."""
    html: Path | None = None
    """HTML page to write: the pictures by label, the least confident first."""
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
        from metajax.experiments.label_outputs import LabelFiles

        paths = self.images, self.out, self.html, self.save, self.export
        files = LabelFiles(*paths, self.source)
        images = files.check()
        kept = self.programs.kept(Places(data_dir=self.data_dir).prepared)
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
