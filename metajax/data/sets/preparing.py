"""Data sets that are prepared once, without TensorFlow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from metajax.errors import InputError


class Builder(Protocol):
    """A TFDS builder that can see whether it will find its source."""

    @property
    def data_dir(self) -> Any:
        """Where its prepared data are, or will be."""
        ...

    @property
    def info(self) -> Any:
        """What they hold."""
        ...

    def is_prepared(self) -> bool:
        """Whether there is nothing to do."""
        ...

    def check_source(self) -> None:
        """Raises an `InputError` if the source cannot be read, before any writing."""
        ...

    def download_and_prepare(self, *, file_format: Any) -> None:
        """Does it."""
        ...


B = TypeVar("B", bound=Builder)


def make_builder(
    what: str,
    load: Callable[[], Callable[..., B]],
    *,
    archives: str | Path | None,
    data_dir: str | Path | None,
) -> B:
    """The TFDS builder of a data set.

    Args:
      what: its name.
      load: imports the builder's class, and TFDS with it.
      archives: where its files are; without it they are downloaded.
      data_dir: where the prepared data are kept; TFDS's own folder by default.

    Raises:
      InputError: if a package is missing.
    """
    try:
        make = load()
    except ModuleNotFoundError as error:
        raise InputError(
            f"{what} needs {error.name}, which is not installed: "
            "pip install tensorflow-datasets array_record importlib_resources"
        ) from error
    return make(data_dir=data_dir and str(data_dir), archives=archives)


def prepare(builder: B) -> B:
    """Prepares a data set unless it is prepared already, and returns its builder.

    Several processes may do so at once: all of them read what the first one prepared.

    Raises:
      InputError: as the builder's `check_source` says.
    """
    if not builder.is_prepared():
        builder.check_source()
    try:
        builder.download_and_prepare(file_format="array_record")
    except OSError:  # of a rename onto what another process prepared
        if not builder.is_prepared():
            raise
    builder.info.read_from_directory(builder.data_dir)  # another's, if it was first
    return builder
