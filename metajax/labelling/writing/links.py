"""Labels as folders of links: a folder for each class, with links to its pictures."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from metajax._files.writing import check_new_folder, replaced_folder
from metajax.errors import InputError
from metajax.labelling.answers import Label

MARK = ".metajax-links"  # a file that tells a folder of this module
LONGEST = 200  # bytes of a link's name; a file's may have 255


def check_links(flag: str, path: Path, images: Path) -> None:
    """Refuses, before anything is computed, a folder that links must not replace.

    Args:
      flag: what the command calls the path.
      path: of the folder.
      images: the folder of the pictures.

    Raises:
      InputError: if it is in the folder of the pictures, cannot be made, or is neither
        empty nor a folder of `write_links` in which there are only links.
    """
    if path.resolve().is_relative_to(images.resolve()):
        raise InputError(
            f"{flag} is in {images}, where links would be taken for pictures to label; "
            "choose another place"
        )
    if not (path / MARK).is_file():
        check_new_folder(flag, path)
        return
    for folder, _, names in os.walk(path):
        for file in (Path(folder, name) for name in names if name != MARK):
            if not file.is_symlink():
                raise InputError(
                    f"{flag} would replace {path}, and {file} in it is not a link; "
                    "move it away"
                )


def write_links(path: Path, labels: Iterable[Label], images: Path) -> None:
    """Writes the folder whole or not at all; one of an earlier call makes way.

    `CLASS/FILE` is a relative link to a picture. Files in folders of the pictures have
    those in their names, `deeper_a.png`, and a number where two names are the same.

    Args:
      path: of the folder.
      labels: of the pictures.
      images: the folder of the pictures.

    Raises:
      OSError: if it cannot be written.
    """
    place, root = path.resolve(), images.resolve()
    with replaced_folder(path) as folder:
        (folder / MARK).write_text("Links of metajax label, which replaces them.\n")
        labels = list(labels)
        folders = _folders_of(label.label for label in labels)
        for inside in folders.values():  # before the links: one may have such a name
            (folder / inside).mkdir(parents=True, exist_ok=True)
        for label in labels:
            inside = folders[label.label]
            target = os.path.relpath(root / label.file, place / inside)
            _free_name(folder / inside, label.file).symlink_to(target)


def _folders_of(names: Iterable[str]) -> dict[str, Path]:
    """The path of each class, another for each."""
    folders: dict[str, Path] = {}
    for name in dict.fromkeys(names):
        first = path = _folder_of(name)
        count = 1
        while path in folders.values():
            count += 1
            path = first.with_name(f"{first.name}-{count}")
        folders[name] = path
    return folders


def _folder_of(label: str) -> Path:
    """A path for a class, which never leads out of the folder nor is hidden or long.

    >>> names = "bar/sub", "../x", "/etc", "C:" + chr(92) + "x"
    >>> [_folder_of(name).as_posix() for name in names]
    ['bar/sub', '_../x', '_/etc', 'C__x']
    """
    parts = re.sub(r"[\\:]", "_", label).split("/")  # which Windows reads as "/"
    shown = (f"_{x}" if not x or x.startswith(".") else x for x in parts)
    return Path(*(_shortened(part, slice(None, -1)) for part in shown))


def _shortened(name: str, rest: slice) -> str:
    """A name without its end, or without its start, of at most `LONGEST` bytes."""
    while len(os.fsencode(name)) > LONGEST:
        name = name[rest]
    return name


def _free_name(folder: Path, file: str) -> Path:
    """A path in a folder that no other link has."""
    name = _shortened(file.replace("/", "_"), slice(1, None))
    stem, suffix = os.path.splitext(name)
    path, count = folder / name, 1
    while os.path.lexists(path):
        count += 1
        path = folder / f"{stem}-{count}{suffix}"
    return path
