"""Types of a benchmark's settings whose values are checked before anything is run.

A field of such a type, `rounds: Count = 7`, is checked by `check_settings`, which the
commands call. Nothing here needs tyro, which a machine with a GPU may lack.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from benchmarks.rivals import RIVALS
from benchmarks.workloads import workload
from metajax.checks import check_count, check_known, check_positive, check_seed
from metajax.errors import InputError
from metajax.targets.absent import chip_named


class Check(NamedTuple):
    """The check of a field: `run(flag, value)` raises `InputError` if it is wrong."""

    run: Callable[[str, Any], object]


def each(noun: str, check: Callable[[str, Any], object]) -> Check:
    """The check of a tuple of at least one value.

    Args:
      noun: what a value is, such as "workload".
      check: the check of each, as of `Check`.
    """

    def run(flag: str, values: tuple[Any, ...]) -> None:
        if not values:
            raise InputError(f"expected at least one {noun}")
        for value in values:
            check(flag, value)

    return Check(run)


def _is_count(flag: str, value: int) -> None:
    check_count(flag, value, least=1)


def _is_index(flag: str, value: int) -> None:
    check_count(flag, value, least=0)


def _is_file(flag: str, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}")


def _is_folder(flag: str, path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"there is no folder {path}")


def _can_be_written(flag: str, path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{flag} must be a file to write, got the folder {path}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} in")


def _can_run(flag: str, rival: str) -> None:
    if lacking := RIVALS[check_known("rival", rival, RIVALS)].lacking:
        raise InputError(f"{rival} is not installed; pip install {' '.join(lacking)}")


Count = Annotated[int, Check(_is_count)]
Counts = Annotated[tuple[int, ...], each("number", _is_count)]
Index = Annotated[int, Check(_is_index)]
Seed = Annotated[int, Check(check_seed)]
Seeds = Annotated[tuple[int, ...], each("seed", check_seed)]
Amount = Annotated[float, Check(check_positive)]
File = Annotated[Path, Check(_is_file)]
Folder = Annotated[Path, Check(_is_folder)]
NewFile = Annotated[Path, Check(_can_be_written)]
Workloads = Annotated[tuple[str, ...], each("workload", lambda _, name: workload(name))]
Chips = Annotated[tuple[str, ...], each("chip", lambda _, name: chip_named(name))]
Rivals = Annotated[tuple[str, ...], each("rival", _can_run)]


def one_of(kind: str, names: Iterable[str]) -> Check:
    """The check of a name, which must be one of its kind, such as "program"."""
    return Check(lambda _, name: check_known(kind, name, names))


def some_of(kind: str, names: Iterable[str]) -> Check:
    """The check of a tuple of names; see `one_of`."""
    return each(kind, one_of(kind, names).run)


def check_settings(settings: Any) -> None:
    """Checks every field of a dataclass, and of those in it.

    Raises:
      InputError: if a value is none that its field can have.
    """
    for flag, value, check in _checks(settings):
        if value is not None:
            check.run(flag, value)


def _checks(settings: Any) -> Iterator[tuple[str, Any, Check]]:
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value = getattr(settings, field.name)
        flag = "--" + field.name.replace("_", "-")
        if is_dataclass(value):
            yield from _checks(value)
        for each in _metadata(hints[field.name]):
            if isinstance(each, Check):
                yield flag, value, each


def _metadata(hint: Any) -> Iterator[Any]:
    """What a type is annotated with, in a union too."""
    yield from getattr(hint, "__metadata__", ())
    for part in getattr(hint, "__args__", ()):
        yield from _metadata(part)
