"""What `metajax label` must not write over, checked before anything is computed."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from metajax._files.safetensors import is_safetensors
from metajax._files.writing import writable_place
from metajax.data.folders.table import is_table
from metajax.data.pictures.decoding import FORMATS
from metajax.data.pictures.unlabelled import Unreadable
from metajax.errors import InputError
from metajax.experiments.owned import run_of
from metajax.labelling.writing.forms import TABLES, is_table_of

START = 2**14  # bytes of a file that tell its form
is_list = is_table_of(Unreadable._fields)


def is_labels(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a table of labels."""
    return any(form.is_own(start) for form in TABLES.values())


def check_replaceable(
    name: str,
    path: Path,
    known: Callable[[bytes], bool] = is_list,
    read: Iterable[tuple[str, Path]] = (),
) -> None:
    """Refuses to write over what is read, or over a file that is not of this command.

    Args:
      name: what the command calls the path.
      path: of the file, or the folder, which need not be there.
      known: whether a file begins as a table that the command writes there.
      read: the flags of files and folders that are read, and those.

    Raises:
      InputError: if it would.
    """
    given = [flag for flag, other in read if _holds(path, other)]
    if not given and not path.is_file():
        return
    if given:
        what = f"read: it is given by {given[0]}"
    elif is_safetensors(path):
        what = "a file of parameters"
    elif _is_picture(path):
        what = "a picture"
    elif is_table(path) and not is_own(path, known):
        what = "a table, and not one of this command"
    else:
        return
    raise InputError(
        f"{name} would be written over {path}, which is {what}; choose another name"
    )


def check_outside_runs(name: str, path: Path) -> None:
    """Refuses a path that a run has, or will have, for a file of its own.

    Raises:
      InputError: if it is one.
    """
    is_stream = not path.is_dir() and writable_place(path) is None
    if is_stream or (run := run_of(path)) is None:
        return
    raise InputError(
        f"{name} would be written over {path}, which is kept for a file of the run in "
        f"{run}; choose another name"
    )


def check_different(files: dict[str, Path]) -> None:
    """Refuses one file by two names.

    Raises:
      InputError: if there is one.
    """
    named: dict[str, list[str]] = {}
    for name, path in files.items():
        named.setdefault(os.path.realpath(path), []).append(name)
    for path, names in named.items():
        if len(names) > 1:
            raise InputError(
                f"{' and '.join(names)} must be different files, and are {path}"
            )


def check_apart(files: dict[str, Path]) -> None:
    """Refuses a file inside a folder that is replaced.

    Raises:
      InputError: if there is one.
    """
    places = {name: Path(os.path.realpath(path)) for name, path in files.items()}
    for name, place in places.items():
        for other, folder in places.items():
            if folder in place.parents:
                raise InputError(
                    f"{name} is in the folder of {other}, which is replaced; choose "
                    "another place"
                )


def is_own(path: Path, known: Callable[[bytes], bool]) -> bool:
    """Whether a file begins as one that this command wrote, see `Form.is_own`."""
    with path.open("rb") as file:
        return known(file.read(START))


def _holds(path: Path, other: Path) -> bool:
    """Whether a file or a folder is another, or a folder that another is in."""
    if not path.exists() or not other.exists():
        return False
    place, inside = (Path(os.path.realpath(x)) for x in (path, other))
    return path.samefile(other) or place in inside.parents


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS):
            return True
    except Exception:  # a damaged file makes Pillow raise almost anything
        return False
