"""Arrays whose rows are made of files: several at a time, and kept if asked."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.data.folders.listing import warn_each
from metajax.data.folders.prepared import (
    Files,
    key_of,
    read_array,
    read_survey,
    write_array,
    write_survey,
)
from metajax.data.folders.survey import survey
from metajax.data.pictures.decoding import Mode, decode
from metajax.data.pictures.faults import gather_faults, write_faults
from metajax.errors import Fault, FilesError, InputError

BLOCK = 64  # rows in memory at once, of an array that is mapped
SHOWN = 40  # characters of a folder's name, in its cache's


class Rows(NamedTuple):
    """An array of bytes whose rows are made one by one.

    Attributes:
      shape: of the array.
      read: `read(i)`, its row i; a `FilesError` if it cannot be made.
      files: what the rows are made of.
      settings: how they are made.
      bits: the depth that images of 16 bits a pixel are read at; None if none is.
    """

    shape: tuple[int, ...]
    read: Callable[[int], np.ndarray]
    files: Files
    settings: tuple[Any, ...]
    bits: int | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in order, some at a time, until one cannot be made.

        Raises:
          FilesError: if rows cannot be made; it has the faults of all of them.
        """
        faults: list[Fault] = []

        def attempt(i: int) -> np.ndarray | FilesError:
            try:
                return self.read(i)
            except FilesError as error:
                return error

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, self.shape[0], BLOCK):
                block = range(start, min(start + BLOCK, self.shape[0]))
                rows = []
                for row in threads.map(attempt, block):
                    if isinstance(row, FilesError):
                        faults += row.faults
                    else:
                        rows.append(row)
                if not faults:
                    yield np.stack(rows)
        if faults:
            raise gather_faults(faults, self.files.folder)

    def in_memory(self) -> np.ndarray:
        """All rows.

        Raises:
          FilesError: see `blocks`.
          InputError: if they do not fit in memory.
        """
        try:
            array, done = np.empty(self.shape, np.uint8), 0
        except (MemoryError, ValueError) as error:
            raise InputError(
                f"{self.shape[0]} images do not fit in memory ({error}); choose a "
                "smaller size or fewer images, or mapped=True"
            ) from error
        for block in self.blocks():
            array[done : done + len(block)] = block
            done += len(block)
        return array


@dataclass(frozen=True)
class Keeping:
    """Where decoded images are kept.

    Attributes:
      folder: that is read.
      cache: for what is kept; None if nothing is.
      mapped: leave arrays in their files.
    """

    folder: Path
    cache: Path | None
    mapped: bool

    def arrays(self, *parts: Rows) -> list[np.ndarray]:
        """The arrays of several parts.

        Raises:
          FilesError: if files cannot be read; it has the faults of all parts.
          InputError: if they do not fit in memory, or nothing can be kept.
        """
        faults: list[Fault] = []
        arrays = []
        for part in parts:
            try:
                arrays.append(self._array(part))
            except FilesError as error:
                faults += error.faults
        if faults:
            error = gather_faults(faults, self.folder)
            raise write_faults(error, self.folder, self._path("unreadable.csv"))
        return arrays

    def pictures(self, paths: list[Path], size: tuple[int, int], mode: Mode) -> Rows:
        """Image files, decoded; warns of what a person should know of them."""
        files = Files(self.folder, paths)
        seen = self._path(f"{key_of(files)}.json")
        bits, lines = look = read_survey(seen) or survey(*files)
        if seen is not None:
            with contextlib.suppress(OSError):  # it only saves time
                seen.parent.mkdir(parents=True, exist_ok=True)
            write_survey(seen, look)
        warn_each(lines)

        def read(i: int) -> np.ndarray:
            return decode(paths[i], size, mode, bits)

        settings = "pictures", size, mode, bits
        return Rows((len(paths), *size, len(mode)), read, files, settings, bits)

    def _array(self, rows: Rows) -> np.ndarray:
        path = self._path(f"{key_of(rows.files, *rows.settings)}.npy")
        if path is None:
            return rows.in_memory()
        if (array := read_array(path, rows.shape)) is None:
            write_array(path, rows.shape, rows.blocks())
            array = np.lib.format.open_memmap(path, mode="r")
        return array if self.mapped else np.array(array)

    def _path(self, end: str) -> Path | None:
        if self.cache is None:
            return None
        return self.cache / f"{self.folder.resolve().name[:SHOWN]}-{end}"
