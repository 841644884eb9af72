"""Files that hold the same bytes, under two labels or one."""

import hashlib
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

END = 4096  # bytes at the end of a file, compared before the whole of it
Labelled = tuple[str, Path]


class Copies(NamedTuple):
    """Pairs of files of the same bytes.

    Attributes:
      apart: of two labels: for each contents that several have, a file of the first of
        them and one of each other.
      together: of one label: the first file of some contents, and each other.
    """

    apart: list[tuple[Path, Path]]
    together: list[tuple[Path, Path]]


def copies(classes: Mapping[str, Sequence[Path]]) -> Copies:
    """Files of the same bytes.

    Only files of equal size are read, and wholly only those of equal ends.

    Args:
      classes: the files of each class.
    """
    groups: list[list[Labelled]] = [
        [(label, path) for label, files in classes.items() for path in files]
    ]
    for key in (_size, _end, _whole):
        groups = [part for group in groups for part in _split(group, key)]
    apart, together = [], []
    for group in groups:
        one: dict[str, Path] = {}
        for label, path in group:
            if (first := one.setdefault(label, path)) != path:
                together.append((first, path))
        first, *others = one.values()
        apart += [(first, other) for other in others]
    return Copies(sorted(apart), sorted(together))


def repeats(files: Iterable[Path], others: Iterable[Path]) -> set[Path]:
    """The files that hold the same bytes as one of the others."""
    same, others = set(files), list(others)
    for key in (_size, _end, _whole):
        keys = {key(path) for path in others} - {None}
        same = {path for path in same if key(path) in keys}
    return same


def _split(
    group: list[Labelled], key: Callable[[Path], Hashable | None]
) -> Iterator[list[Labelled]]:
    """The parts of a group of equal keys, of those with several files."""
    parts: dict[Hashable, list[Labelled]] = {}
    for label, path in group:
        if (value := key(path)) is not None:
            parts.setdefault(value, []).append((label, path))
    return (part for part in parts.values() if len(part) > 1)


def _size(path: Path) -> int | None:
    """Of a file with contents; None for anything else, which decoding refuses."""
    try:
        there = path.stat()
    except OSError:
        return None
    return (stat.S_ISREG(there.st_mode) and there.st_size) or None


def _end(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(-min(END, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return file.read()
    except OSError:
        return None


def _whole(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).digest()
    except OSError:
        return None
