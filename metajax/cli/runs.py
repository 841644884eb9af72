"""The commands that take a preset: train, sweep, pretrain and plan."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro

from metajax.checks import check_count
from metajax.cli.machine import Machine
from metajax.cli.output import Output
from metajax.cli.parsing import UsageError, asks_help, parse
from metajax.cli.programs import Programs
from metajax.cli.starting import Start, read_start
from metajax.cli.submit import submit
from metajax.errors import InputError
from metajax.experiments.config import Config
from metajax.experiments.learners import LEARNERS
from metajax.experiments.networks import MODELS
from metajax.experiments.presets import DESCRIPTIONS, PRESETS
from metajax.experiments.tasks import Places
from metajax.reporting import TRACKERS

RUNS = Path("runs")
LEARNER_NAMES: Any = Literal[tuple(LEARNERS)]  # pyright: ignore
TRACKER_NAMES: Any = Literal[tuple(TRACKERS)]  # pyright: ignore
MODEL_NAMES: Any = Literal[MODELS]  # pyright: ignore


@dataclass(frozen=True)
class Run:
    """What a command that takes a preset is given."""

    learner: Annotated[LEARNER_NAMES, tyro.conf.arg(name="learner")]  # pyright: ignore
    """Learning algorithm; add --help after it to list its options."""
    network: Annotated[MODEL_NAMES, tyro.conf.arg(name="model")]  # pyright: ignore
    """Network; add --help after it to list its options. --backbone FILE is short for
    --model backbone --model.file FILE."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    places: Annotated[Places, tyro.conf.arg(name="")]
    machine: Annotated[Machine, tyro.conf.arg(name="")]
    run_dir: Path
    """Directory of the run. A run that exists already continues, on the same data."""
    file: Annotated[Path | None, tyro.conf.arg(name="config", metavar="FILE")] = None
    """Configuration file in TOML or JSON (preset = "NAME" and what differs from it), a
    run's directory, or its config.json; flags override it."""
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()
    arguments: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Arguments of the command line, after the command."""


@dataclass(frozen=True)
class Train(Run):
    """Meta-train a preset."""

    start: Annotated[Path | None, tyro.conf.arg(name="from", metavar="RUN")] = None
    """Run, or file of metajax publish, whose meta-parameters training starts from, in
    place of random ones; its learner and network must match."""
    log: tuple[TRACKER_NAMES, ...] = ()  # pyright: ignore
    """Experiment trackers that training metrics are sent to."""
    submit: tuple[str, ...] | None = None
    """Train as a SLURM job, or on this machine if it has no SLURM, by submitit with
    these settings, such as timeout_min=120 slurm_partition=gpu gpus_per_node=1. Before
    its time limit, the run is saved and queued again."""
    output: Annotated[Output, tyro.conf.arg(name="")] = Output()

    def __call__(self) -> None:
        """Trains."""
        from metajax.experiments.run import train

        if self.submit is not None:
            self.config.check()
            submit(self.arguments, self.submit, self.run_dir)
            return
        self.machine.start()
        how = {"devices": self.machine.shared, "start": self.start, "log": self.log}
        arguments = self.config, self.run_dir, self.places
        with self.programs.kept(self.places.prepared):
            self.output.of_run(self.run_dir, lambda: train(*arguments, **how))


@dataclass(frozen=True)
class Swept(Run):
    """Train a preset with every combination of some values, or some of them."""

    over: tuple[str, ...] = ()
    """Options and their values, such as inner.rate=0.1,0.4 outer.rate=1e-3,2e-3. Each
    combination is a run in its own folder below --run-dir; finished runs are not
    repeated. The best validation is marked."""
    trials: int | None = None
    """Number of combinations that Optuna proposes, each from the earlier validations,
    in place of all. --over then takes ranges too: inner.rate=1e-3..1:log, or
    inner.steps=1..10 (whole numbers if both ends are)."""
    output: Annotated[Output, tyro.conf.arg(name="")] = Output()

    def __call__(self) -> None:
        """Sweeps."""
        from metajax.experiments.sweep import sweep
        from metajax.experiments.sweep_options import read_options

        options = read_options(self.over)
        if self.trials is not None:
            check_count("--trials", self.trials, least=1)
        self.machine.start_alone()
        with self.programs.kept(self.places.prepared):
            self.output.of_sweep(
                self.run_dir,
                lambda: sweep(
                    self.config,
                    self.run_dir,
                    self.places,
                    options,
                    trials=self.trials,
                    devices=self.machine.shared,
                ),
            )


@dataclass(frozen=True)
class Body(Run):
    """Pre-train a preset's body."""

    def __call__(self) -> None:
        """Pre-trains."""
        from metajax.experiments.pretrain import pretrain

        self.machine.start_alone()
        devices = self.machine.shared
        with self.programs.kept(self.places.prepared):
            pretrain(self.config, self.run_dir, self.places, devices=devices)


@dataclass(frozen=True)
class Planned(Run):
    """Plan a preset."""

    chip: Annotated[str | None, tyro.conf.arg(name="for", metavar="CHIP")] = None
    """Chip to plan for that is not here, such as v5e, v5e:4x4 (a slice), h200:8 (a host
    of 8) or a100; --devices uses fewer of its devices. The step is compiled for the
    chip, not run."""

    def __call__(self) -> None:
        """Plans."""
        from metajax.experiments.study import plan_run, plan_run_for

        self.config.check()
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
        plan_run(self.config, self.places, devices=self.machine.shared)


KINDS: dict[str, tuple[type[Run], str]] = {
    "train": (Train, ""),
    "sweep": (Swept, "-sweep"),
    "pretrain": (Body, "-body"),
    "plan": (Planned, ""),
}
"""The commands that take a preset, and how the names of their directories end."""


def parse_run(command: str, arguments: list[str]) -> Run | None:
    """The run that a command line asks for; None if it asks for help on presets.

    Raises:
      UsageError: without a preset and a file; or if a preset, a learner or a network is
        none of those there are.
      InputError: if a file is not a configuration.
    """
    start = read_start(arguments)
    if start is None:
        if asks_help(arguments):
            return None
        raise UsageError(
            f"expected a preset, as in metajax {command} glyphs, or --config FILE; "
            f"metajax {command} --help lists the presets"
        )
    kind, suffix = KINDS[command]
    named = command if start.preset is None else f"{command} {start.preset}"
    run = parse(
        kind,
        start.rest,
        prog=f"metajax {named}",
        description=DESCRIPTIONS.get(start.preset or "", kind.__doc__),
        default=_default(kind, start, suffix),
    )
    return replace(run, arguments=tuple(arguments))


def _default(kind: type[Run], start: Start, suffix: str) -> Run:
    config, directory = start.config, RUNS / (start.name + suffix)
    name, network = config.learner, config.model.name
    return kind(name, network, config, Places(), Machine(), directory)


def presets(command: str) -> Any:
    """The presets as subcommands, for the help that lists them."""
    kind, suffix = KINDS[command]
    return Union[  # noqa: UP007, built from the table
        tuple(
            Annotated[
                kind,
                tyro.conf.subcommand(
                    name,
                    default=_default(kind, Start(name, name, config, ()), suffix),
                    description=DESCRIPTIONS[name],
                ),
            ]
            for name, config in PRESETS.items()
        )
    ]
