"""The `metajax` command: parses, runs, and prints a mendable error as one line."""

import difflib
import gc
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from absl import logging

import metajax
from metajax.checks import check_count, check_seed
from metajax.cli.machine import Machine, a_device_for_each_core, end_now, several
from metajax.cli.programs import Programs
from metajax.errors import InputError, NonFiniteError, naming
from metajax.experiments.interrupt import Stopped
from metajax.experiments.presets import DESCRIPTIONS, PRESETS, Config, Evaluating
from metajax.experiments.tasks import Places, Split, prepared_in

RUNS = Path("runs")
TAKES_PRESET = ("train", "pretrain", "plan")
# What errors call arguments of metajax.data, whichever the command.
FLAGS = {
    "archives": "--archives",
    "data_dir": "--data-dir",
    "columns": "--columns",
    "columns_example": "--columns file=NAME,label=NAME",
}
INTERRUPTED = 130  # the status of a process that SIGINT ended, as shells have it


@dataclass(frozen=True)
class Run:
    """Meta-train a preset."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    places: Annotated[Places, tyro.conf.arg(name="")]
    machine: Annotated[Machine, tyro.conf.arg(name="")]
    run_dir: Path
    """The run's directory; a run that is there goes on, with the same data."""
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()

    def __call__(self) -> None:
        """Trains."""
        from metajax.experiments.run import train

        self.machine.start()
        with self.programs.kept(prepared_in(self.places)):
            train(self.config, self.run_dir, self.places, devices=self.machine.shared)


@dataclass(frozen=True)
class Planned(Run):
    """Plan a preset."""

    chip: Annotated[str | None, tyro.conf.arg(name="for", metavar="CHIP")] = None
    """A chip that is not here to plan for, such as v5e, v5e:4x4 (a slice), h200:8 (a
    host's), a100; --devices takes some of them. Compiled for it, not run."""

    def __call__(self) -> None:
        """Plans."""
        from metajax.experiments.run import check_config
        from metajax.experiments.study import plan_run, plan_run_for

        check_config(self.config)
        if self.config.forms != "table":
            raise InputError(
                "--forms tuned times operations on the device, which a plan does not; "
                "leave it out"
            )
        if self.chip is not None:
            self.machine.check_alone()
            plan_run_for(self.config, self.places, self.chip, self.machine.devices)
            return
        self.machine.start_alone()
        plan_run(self.config, self.places)


def _presets(suffix: str, kind: type[Run] = Run) -> Any:
    """The presets as subcommands, their directories of names that end in `suffix`."""
    return Union[  # noqa: UP007, built from the table
        tuple(
            Annotated[
                kind,
                tyro.conf.subcommand(
                    name,
                    default=kind(config, Places(), Machine(), RUNS / (name + suffix)),
                    description=DESCRIPTIONS[name],
                ),
            ]
            for name, config in PRESETS.items()
        )
    ]


Preset, PresetBody = _presets(""), _presets("-body")
PresetPlan = _presets("", Planned)


@dataclass(frozen=True)
class Train:
    """Meta-train a preset, evaluate it and draw it; the same command again goes on."""

    preset: Annotated[Preset, tyro.conf.arg(name="")]  # pyright: ignore
    """Which one."""

    def __call__(self) -> None:
        """Trains."""
        self.preset()


@dataclass(frozen=True)
class Pretrain:
    """Train a preset's body to tell all training classes apart, for --learner mtl."""

    preset: Annotated[PresetBody, tyro.conf.arg(name="")]  # pyright: ignore
    """Which one; its model and its outer optimizer and steps hold, of batches of 64
    images."""

    def __call__(self) -> None:
        """Pre-trains."""
        from metajax.experiments.pretrain import pretrain

        run = self.preset
        run.machine.start_alone()
        with run.programs.kept(prepared_in(run.places)):
            pretrain(run.config, run.run_dir, run.places, devices=run.machine.shared)


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
    tasks: int | None = None
    """Tasks; this and what follows are by default as the run was configured."""
    steps: int | None = None
    """Adaptation steps."""
    queries: int | None = None
    """Query examples a class (or a task, for regression)."""
    inductive_queries: int | None = None
    """Queries a task also predicted one by one."""
    seed: int | None = None
    """Random seed for sampling tasks."""
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()

    def __call__(self) -> None:
        """Evaluates."""
        from metajax.experiments.run import evaluate_run

        names = Evaluating.__dataclass_fields__
        changes = {n: v for n in names if (v := getattr(self, n)) is not None}
        flags = {
            "queries": "--queries",
            "images_per_class": "--queries",
            "min_per_class": "--data.drop-small-classes of metajax train",
        }
        with self.programs.kept(prepared_in(self.places)), naming(flags):
            evaluate_run(
                self.run, changes, self.split, self.places, kept=self.checkpoint
            )


@dataclass(frozen=True)
class Prepare:
    """Prepare a data set once, from the network or from local archives."""

    name: tyro.conf.Positional[Literal["omniglot", "cifar100"]]
    """Which data set."""
    places: Annotated[Places, tyro.conf.arg(name="")] = Places()

    def __call__(self) -> None:
        """Prepares."""
        from metajax.data.cifar import prepare_cifar100
        from metajax.data.omniglot import prepare_omniglot

        prepare, what = {
            "omniglot": (prepare_omniglot, "characters"),
            "cifar100": (prepare_cifar100, "classes"),
        }[self.name]
        builder = prepare(archives=self.places.archives, data_dir=self.places.data_dir)
        for split, info in builder.info.splits.items():
            print(f"{self.name} {split}: {info.num_examples} {what}")
        print(f"prepared in {builder.data_dir}")


@dataclass(frozen=True)
class List:
    """List the data sets and where they come from."""

    def __call__(self) -> None:
        """Lists."""
        print("sinusoid  generated as it is asked for")
        print("glyphs    drawn as it is asked for")
        print("omniglot  prepared once: metajax data prepare omniglot [--archives DIR]")
        print("cifar100  prepared once: metajax data prepare cifar100 [--archives DIR]")
        print("a folder  of your images: metajax train miniimagenet-5w1s --images DIR")


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
    """Label a folder of pictures by a few that are labelled, with a trained run.

    The pictures may be of any size; they are seen as the run's were. Those of runs of
    Omniglot and of glyphs are taken as dark ink on white paper, in grey.
    """

    run: tyro.conf.Positional[Path | None] = None
    """The run's directory; none with --from."""
    support: Path | None = None
    """Folder of labelled pictures: CLASS/*, of two classes or more, and any number of
    pictures of each."""
    images: Path | None = None
    """Folder of the pictures to label, at any depth."""
    out: Path | None = None
    """Where the labels go, as CSV: file, label, confidence, runner-up and its
    confidence. Pictures that cannot be read are listed beside it."""
    html: Path | None = None
    """A page of the pictures by label, the least sure first."""
    save: Path | None = None
    """A file for what was learnt, for --from."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Such a file, in place of a run and --support."""
    export: Path | None = None
    """A file for it as a program of StableHLO, which runs without metajax."""
    checkpoint: Literal["last", "best"] = "last"
    """The run's newest, or that of the best validation."""
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
        from metajax.labelling.folder import Targets, label

        files = self.images, self.out, self.html, self.save, self.export
        targets = Targets(*files, self.source)
        found = targets.check()
        kept = self.programs.kept(prepared_in(Places(data_dir=self.data_dir)))
        with targets.stdout_apart(), kept:
            labeller = self._taught()
            print(*labeller.expected, sep="\n")
            label(labeller, targets, found)

    def _taught(self) -> Any:
        from metajax.labelling.saved import load
        from metajax.labelling.teaching import teach

        places = Places(self.archives, self.data_dir, self.run_images)
        if self.source is None and self.run and self.support:
            return teach(self.run, self.support, places, kept=self.checkpoint)
        if self.source is None:
            raise InputError(
                "expected a run's directory and --support DIR, or --from FILE"
            )
        if self.run or self.support or places != Places():
            raise InputError(
                "--from FILE holds the run and its classes; leave out the run, its "
                "data and --support"
            )
        return load(self.source)


@dataclass(frozen=True)
class Plan:
    """What a preset will cost on this device, or on a chip that is not here."""

    preset: Annotated[PresetPlan, tyro.conf.arg(name="")]  # pyright: ignore
    """Which one; its flags are those of metajax train."""

    def __call__(self) -> None:
        """Plans."""
        self.preset()


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


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Label, tyro.conf.subcommand("label")]
    | Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: the arguments; the process's own by default.

    Returns:
      The exit status: 0; 1 for an error that a person can mend, 2 for bad arguments,
      130 if interrupted, 143 if stopped by SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # Quiet orbax and TFDS, whose notes are for their own developers.
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.ERROR)
    if argv[:2] == ["study", "--plan"]:
        argv[:2] = ["plan"]
    if argv == ["--version"]:
        print(f"metajax {metajax.__version__}")
        return 0
    if wrong := _unknown_preset(argv):
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    command: Any = tyro.cli(
        Command,  # pyright: ignore
        prog="metajax",
        description="Fast, exact second-order meta-learning.",
        args=argv,
    )
    try:
        _check_idle(argv, command)
        with naming(FLAGS):
            command()
    except (InputError, NonFiniteError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"{stopped}, and saved; the same command goes on", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from the last checkpoint"
        trains = argv[0] in ("train", "pretrain")
        print(f"interrupted{goes_on if trains else ''}", file=sys.stderr)
        return INTERRUPTED
    return 0


def console() -> int:
    """The installed command: `main`, with a device of JAX for every core."""
    a_device_for_each_core()
    gc.set_threshold(100_000, 20, 100)  # tracing makes many objects, and few cycles
    warnings.showwarning = _warn
    if isinstance(sys.stdout, io.TextIOWrapper):  # names need not be its encoding's
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
    except Exception:
        if not several():
            raise
        traceback.print_exc()
        status = 1
    if status == INTERRUPTED or (status and several()):
        end_now(status)
    return status


def _warn(message: Warning | str, *_: Any) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _check_idle(argv: Sequence[str], command: Any) -> None:
    """Refuses flags that would do nothing, but for a run that began with them."""
    if not isinstance(command, Train | Plan):
        return
    run = command.preset
    begun = isinstance(command, Train) and (run.run_dir / "config.json").exists()
    if not begun:
        from metajax.experiments.flags import check_flags

        check_flags(argv, run.config.learner)


def _unknown_preset(argv: Sequence[str]) -> str | None:
    if len(argv) < 2 or argv[0] not in TAKES_PRESET or argv[1].startswith("-"):
        return None
    if argv[1] in PRESETS:
        return None
    near = difflib.get_close_matches(argv[1], PRESETS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"no preset {argv[1]!r}; {hint}there are {', '.join(PRESETS)}"
