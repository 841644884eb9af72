"""Data sets that are prepared once: whether they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def _omniglot() -> Any:
    from metajax.data.omniglot_builder import OmniglotCharacters

    return OmniglotCharacters


def _cifar100() -> Any:
    from metajax.data.cifar_builder import Cifar100Classes

    return Cifar100Classes


# Imported when they are asked for: they need TFDS, which other data do without.
BUILDERS: dict[str, Callable[[], Any]] = {"omniglot": _omniglot, "cifar100": _cifar100}


def find_prepared(name: str, data_dir: Path | None) -> tuple[Path | None, str]:
    """Where the data of a name are prepared, or why they are not.

    Args:
      name: of `BUILDERS`.
      data_dir: the folder of prepared data; TFDS's own by default.

    Returns:
      The folder and "", or None and what to do.
    """
    try:
        make = BUILDERS[name]()
    except ModuleNotFoundError as error:
        return None, f"{error.name} is not installed"
    builder = make(data_dir=data_dir and str(data_dir))
    if builder.is_prepared():
        return Path(builder.data_dir), ""
    return None, f"not prepared: metajax data prepare {name}"
