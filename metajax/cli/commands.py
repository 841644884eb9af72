"""The commands that take a run or nothing: evaluate, study, data and doctor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metajax.checks import check_count, check_seed
from metajax.cli.output import Output
from metajax.cli.programs import Programs
from metajax.errors import InputError, naming
from metajax.experiments.families import FAMILIES, PREPARED, Family
from metajax.experiments.tasks import Places, Split
from metajax.experiments.tent import Tent

FLAGS = "tasks", "steps", "queries", "inductive-queries", "seed"
TASKS = "ways", "shots", "alphabets"
NAMES: Any = Literal[tuple(PREPARED)]  # pyright: ignore (built from the table)


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a checkpoint of a run, by its own protocol or another."""

    run: tyro.conf.Positional[Path]
    """Directory of the run, or a file of metajax publish, whose results go to a folder
    beside it. evaluation.json is of the run's own protocol and data after the last
    meta-step; any other evaluation goes to a file named after what differs."""
    checkpoint: Literal["last", "best"] = "last"
    """Checkpoint to evaluate: the newest, or the one of the best validation."""
    split: Split = "test"
    """Split whose classes the tasks are sampled from."""
    ways: int | None = None
    """Classes per task, for learners that take any number of classes; the run's by
    default."""
    shots: int | None = None
    """Support examples per class (or per task, for regression); the run's by
    default."""
    tasks: int | None = None
    """Number of tasks; the run's by default."""
    steps: int | None = None
    """Inner steps, for learners with an inner loop; the run's by default."""
    queries: int | None = None
    """Query examples per class (or per task, for regression); the run's by default."""
    inductive_queries: int | None = None
    """Query examples per task that are also predicted independently of the others; the
    run's by default."""
    seed: int | None = None
    """Random seed for sampling tasks; the run's by default."""
    alphabets: tuple[str, ...] | None = None
    """Alphabets of Omniglot's test characters; the run's by default."""
    on: Annotated[str | None, tyro.conf.arg(metavar="PRESET")] = None
    """Preset whose data the test tasks are sampled from, with the ways and shots of the
    run; images are resized and made grey or coloured as the run's are. --images DIR
    without --on takes a folder of images by class, also for a run of other data if it
    classifies. The result is evaluation-on-*.json."""
    inverted: bool | None = None
    """Whether to invert inputs, x ← 1 - x. By default, other data than the run's are
    inverted where they are dark ink on white and the run's are bright ink on black, or
    the reverse."""
    tent: Tent = Tent()
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()
    output: Annotated[Output, tyro.conf.arg(name="")] = Output()

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
            arguments = self.run, changes, self.split, self.places
            self.output.of_run(
                self.run, lambda: evaluate_run(*arguments, kept=self.checkpoint)
            )


@dataclass(frozen=True)
class Prepare:
    """Prepare a data set once, from the network or from local archives."""

    name: tyro.conf.Positional[NAMES]  # pyright: ignore
    """Data set to prepare."""
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
    """Study how a run adapts: one page of figures, each with how to read it."""

    run: tyro.conf.Positional[Path]
    """Directory of the run, or a file of metajax publish. The page is
    study/report.html, or study-*/report.html for other data."""
    tasks: int = 100
    """Number of validation tasks to study."""
    seed: int = 0
    """Random seed for sampling validation tasks."""
    only: tuple[str, ...] = ()
    """Names of the diagnostics to run; all by default."""
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
class Doctor:
    """Print versions and devices, and test the gradient; takes about a minute."""

    data_dir: Path | None = None
    """Folder of prepared data; by default TFDS's data directory."""

    def __call__(self) -> None:
        """Examines."""
        from metajax.cli.doctor import doctor

        if not doctor(self.data_dir):
            raise InputError(
                "something above is wrong; report it with all of the above"
            )
