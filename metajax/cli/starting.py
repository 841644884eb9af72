"""The configuration that a command line begins with, before its other flags."""

import json
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metajax.checks import check_known
from metajax.errors import InputError
from metajax.experiments.config import Config, changed, with_learner, with_model
from metajax.experiments.evaluating import Evaluating, EvaluatingSteps
from metajax.experiments.learners import LEARNERS
from metajax.experiments.networks import MODELS, NETWORKS
from metajax.experiments.presets import PRESETS
from metajax.experiments.renewal import names_of

OPTIONS: dict[str, Any] = {
    "inner": tuple(LEARNERS.values()),
    "model": NETWORKS,
    "evaluation": (Evaluating, EvaluatingSteps),
}


class Unknown(InputError):
    """A name that is none of those there are."""


@dataclass(frozen=True)
class Start:
    """What a command line begins with.

    Attributes:
      name: of the preset, or of the file of the configuration.
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
      Unknown: if a name is none of those there are.
      InputError: if the file is not a configuration.
    """
    named = bool(arguments) and not arguments[0].startswith("-")
    preset, rest = (arguments[0], arguments[1:]) if named else (None, arguments)
    if preset is not None:
        _check_known("preset", preset, PRESETS)
    path = _value("--config", rest)
    config = None if preset is None else PRESETS[preset]
    if path is not None:
        config = read_config(Path(path), config)
    if config is None:
        return None
    for flag, names, change in (
        ("--learner", LEARNERS, with_learner),
        ("--model", MODELS, with_model),
    ):
        if (chosen := _value(flag, rest)) is not None:
            _check_known(flag.strip("-"), chosen, names)
            config = change(config, chosen)
    _check_options(config, rest)
    name = preset or Path(path or "").stem
    return Start(name, preset, config, tuple(rest))


def _value(flag: str, arguments: Sequence[str]) -> str | None:
    """The last value of a flag, `--flag VALUE` or `--flag=VALUE`."""
    value = None
    for i, argument in enumerate(arguments):
        name, equals, after = argument.partition("=")
        if name == flag:
            value = after if equals else "".join(arguments[i + 1 : i + 2]) or None
    return value


def _check_options(config: Config, arguments: Sequence[str]) -> None:
    """Refuses an option of another learner, network or family, with who has it."""
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        group, _, option = flag.removeprefix("--").partition(".")
        name = option.replace("-", "_")
        kinds = OPTIONS.get(group, ())
        owners = [kind for kind in kinds if name in names_of(kind)]
        if not owners or type(getattr(config, group)) in owners:
            continue  # an option that there is not is the parser's to refuse
        names = {getattr(kind, "name", kind.__name__) for kind in owners}
        ours = {"model": config.model.name}.get(group, config.learner)
        mend = "leave it out"
        if group != "evaluation" and ours not in names:
            mend += f", or take {' or '.join(sorted(names))}"
        ours = config.learner if ours in names else ours
        raise Unknown(f"{flag} is no option with {ours}; {mend}")


def _check_known(what: str, name: str, names: Collection[str]) -> None:
    try:
        check_known(what, name, names)
    except InputError as error:
        raise Unknown(str(error)) from error


def read_config(path: Path, base: Config | None) -> Config:
    """A configuration of a file of TOML or JSON, or of a run's directory.

    A file may hold all of it, as a run's config.json does, or what is different from
    `base`, or from the `preset` that it names.

    Args:
      path: the file.
      base: what it changes.

    Returns:
      The configuration.

    Raises:
      InputError: if the file cannot be read, or is not a configuration.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        text = path.read_text()
        plain = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        return _completed(plain, base)
    except (ValueError, RecursionError, AttributeError) as error:
        raise InputError(f"{path} is not a configuration ({error})") from error


def _completed(plain: Any, base: Config | None) -> Config:
    """A whole configuration, of one that may be a part."""
    plain = dict(plain)
    preset = plain.pop("preset", None)
    if preset is not None:
        _check_known("preset", str(preset), PRESETS)
        base = PRESETS[preset]
    if base is not None:
        return changed(base, plain)
    if "data" not in plain:
        raise InputError('expected preset = "NAME", or a run\'s whole config.json')
    return Config.from_dict(plain)
