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
    """The run's directory, or a file of metajax publish, whose results go to a folder
    beside it. The evaluation.json of a run is of its own protocol, data and last
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
    """The run's directory, or a file of metajax publish; the page is study/report.html,
    or study-*/ of other data."""
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
