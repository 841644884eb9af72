"""The configuration that a command line begins with, before its other flags."""

import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metajax.checks import check_known
from metajax.cli.parsing import UsageError
from metajax.errors import InputError
from metajax.experiments.config import (
    CONFIG,
    Config,
    changed,
    with_learner,
    with_model,
)
from metajax.experiments.evaluating import MEASUREMENTS
from metajax.experiments.families import FAMILIES
from metajax.experiments.learners import LEARNERS
from metajax.experiments.networks import MODELS, NETWORKS
from metajax.experiments.plain import names_of, object_at
from metajax.experiments.presets import PRESETS, preset_with
from metajax.experiments.published import is_published
from metajax.experiments.restoring import configured

OPTIONS: dict[str, Any] = {
    "data": FAMILIES,
    "inner": tuple(LEARNERS.values()),
    "model": NETWORKS,
    "evaluation": MEASUREMENTS,
}
BACKBONE = "--backbone"
JSON = "JSON", json.loads  # of any other suffix than .toml
WHOLE = {"learner", "data", "model", "inner", "outer", "evaluation"}
SHOWN = 3  # owners of an option that an error names


@dataclass(frozen=True)
class Start:
    """What a command line begins with.

    Attributes:
      name: of the preset, of the file of the configuration, or of its run.
      preset: the preset's name, if one was given.
      config: the configuration that the other flags change.
      rest: the arguments after the preset.
    """

    name: str
    preset: str | None
    config: Config
    rest: tuple[str, ...]


def read_start(arguments: Sequence[str]) -> Start | None:
    """Reads the preset, `--config`, `--learner` and `--model` of a command line.

    They decide which other flags there are, and so are read first.

    Args:
      arguments: those after the name of the command.

    Returns:
      What it begins with; None without a preset and a file.

    Raises:
      UsageError: if a name is none of those there are.
      InputError: if the file is not a configuration.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    preset, rest = (arguments[0], arguments[1:]) if named else (None, arguments)
    rest = _spelled_out(rest)
    if preset is not None:
        check_name("preset", preset, PRESETS)
    path, learner, model = (
        _value(flag, rest) for flag in ("--config", "--learner", "--model")
    )
    if preset is None and path is None:
        return None
    if learner is not None:
        check_name("learner", learner, LEARNERS)
    if path is not None:
        config = read_config(Path(path), preset)
        config = config if learner is None else with_learner(config, learner)
    elif preset is not None:
        config = PRESETS[preset] if learner is None else preset_with(preset, learner)
    if model is not None:
        check_name("model", model, MODELS)
        config = with_model(config, model)
    _check_options(config, rest)
    return Start(preset or _name_of(Path(path or "")), preset, config, tuple(rest))


def _name_of(path: Path) -> str:
    """The name of a file, or of the run whose configuration it is."""
    run = path if path.is_dir() else path.parent if path.name == CONFIG else None
    return path.stem if run is None else run.resolve().name


def _value(flag: str, arguments: Sequence[str]) -> str | None:
    """The last value of a flag, `--flag VALUE` or `--flag=VALUE`."""
    value = None
    for i, argument in enumerate(arguments):
        name, equals, after = argument.partition("=")
        if name == flag:
            value = after if equals else "".join(arguments[i + 1 : i + 2]) or None
    return value


def _spelled_out(arguments: Sequence[str]) -> list[str]:
    """The arguments, with `--backbone FILE` as `--model backbone --model.file FILE`."""
    spelled: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == BACKBONE:
            spelled += [
                "--model",
                "backbone",
                "--model.file",
                *([value] * bool(equals)),
            ]
        else:
            spelled.append(argument)
    return spelled


def _check_options(config: Config, arguments: Sequence[str]) -> None:
    """Refuses an option of another learner, network or family, with who has it."""
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        flag = argument.partition("=")[0].replace("_", "-")
        group, _, option = flag.removeprefix("--").partition(".")
        name = option.replace("-", "_")
        kinds = OPTIONS.get(group, ())
        owners = [kind for kind in kinds if name in names_of(kind)]
        if not owners or type(getattr(config, group)) in owners:
            continue  # an option that there is not is the parser's to refuse
        names = [_describe(kind) for kind in owners]
        ours = _describe(type(getattr(config, group))) or config.learner
        others = [n for n in dict.fromkeys(names) if n and n != ours][:SHOWN]
        ours = config.learner if ours in names else ours
        mend = f", or take {', '.join(others)}" if others else ""
        raise UsageError(f"{flag} is no option with {ours}; leave it out{mend}")


def _describe(kind: Any) -> str:
    """What a command line calls a kind of options; empty if it has no name there."""
    return getattr(kind, "name", "") or getattr(kind, "origin", ("",))[0]


def check_name(what: str, name: str, names: Collection[str]) -> None:
    """Checks a name of a command line.

    Raises:
      UsageError: if it is none of those there are.
    """
    try:
        check_known(what, name, names)
    except InputError as error:
        raise UsageError(str(error)) from error


def read_config(path: Path, preset: str | None = None) -> Config:
    """A configuration of a file of TOML or JSON, or of a run's directory.

    A file may hold all of it, as a run's config.json does, or what is different from a
    preset.

    Args:
      path: the file; or a file of metajax publish.
      preset: which preset it changes; by default the one that it names.

    Returns:
      The configuration.

    Raises:
      UsageError: if it names a preset or a learner that is none of those there are.
      InputError: if the file cannot be read, or is not a configuration.
    """
    if is_published(path):
        return configured(path)
    path = path / CONFIG if path.is_dir() else path
    kind, loads = ("TOML", tomllib.loads) if path.suffix == ".toml" else JSON
    try:
        plain = loads(path.read_bytes().decode())
        return _completed(object_at("a configuration", plain), preset)
    except UsageError:
        raise
    except OSError as error:
        raise InputError(f"--config: cannot read {path} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--config: {path}, read as {kind}, is not a configuration ({error})"
        ) from error


def _completed(plain: Mapping[str, Any], preset: str | None) -> Config:
    """A whole configuration, of one that may be a part."""
    if plain.keys() >= WHOLE:
        return Config.from_dict(plain)
    named = plain.get("preset", preset)
    if named is None:
        raise InputError('expected preset = "NAME", or a run\'s whole config.json')
    check_name("preset", str(named), PRESETS)
    if preset not in (None, named):
        raise InputError(f"it is of preset {named}, and {preset} was asked for")
    changes = {name: value for name, value in plain.items() if name != "preset"}
    if (learner := changes.get("learner")) is None:
        return changed(PRESETS[named], changes)
    check_name("learner", str(learner), LEARNERS)
    return changed(preset_with(named, str(learner)), changes)
