"""The images of a split by class, before they are decoded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from metajax.data.folders.names import Classes, some
from metajax.data.pictures.decoding import Pixels, decode_classes
from metajax.data.pictures.faults import gather_faults
from metajax.errors import Fault, FilesError, InputError, argument


@dataclass(frozen=True)
class Listing:
    """The images of a folder by class, and what a person should know of them.

    Attributes:
      folder: that holds them.
      classes: the files of each class, both sorted by name.
      lines: what is not read, or is read as one may not expect, a line each.
      table: that says the classes; None if folders do.
      faults: the lines of the table that cannot be used.
    """

    folder: Path
    classes: Classes
    lines: tuple[str, ...]
    table: Path | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The files of all classes, in order."""
        return [path for files in self.classes.values() for path in files]

    @property
    def counts(self) -> list[int]:
        """The number of images of each class."""
        return [len(files) for files in self.classes.values()]

    def decode(self, pixels: Pixels) -> np.ndarray:
        """All images, `uint8[classes, per_class, height, width, channels]`.

        Raises:
          FilesError: if files cannot be read; it lists all of them.
          InputError: if all together do not fit in memory.
        """
        return decode_classes(list(self.classes.values()), *pixels)

    def decode_each(self, pixels: Pixels) -> Iterator[np.ndarray]:
        """The images of one class after the other, `uint8[images, ...]`.

        Raises:
          FilesError: if files cannot be read; it lists all of them.
        """
        faults: list[Fault] = []
        for files in self.classes.values():
            try:
                (images,) = decode_classes([files], *pixels)
            except FilesError as error:
                faults += error.faults
                continue
            if not faults:
                yield images
        if faults:
            raise gather_faults(faults, self.folder)

    def faults_of(self, pixels: Pixels) -> list[Fault]:
        """Everything that is wrong with the table and the files, which are decoded."""
        try:
            for _ in self.decode_each(pixels):
                pass
        except FilesError as error:
            return [*self.faults, *error.faults]
        return list(self.faults)

    def without_small(self, least: int) -> Self:
        """The classes of at least so many images, with a line on those left out.

        Raises:
          InputError: if there are none.
        """
        counts = dict(zip(self.classes, self.counts))
        small = {name: n for name, n in counts.items() if n < least}
        if not small:
            return self
        data = argument("store", str(self.folder))
        if len(small) == len(counts):
            name = max(small, key=small.__getitem__)
            raise InputError(
                f"no class in {data} has {least} images, the fewest to be kept by "
                f"{argument('min_per_class')}: the largest, {name}, has {small[name]}; "
                f"add images, or lower {argument('images_per_class', 'min_per_class')}"
            )
        line = (
            f"{len(small)} of the {len(counts)} classes in {data} have fewer than "
            f"{least} images and are left out, with {sum(small.values())} images in "
            "all: " + some(f"{name} ({n})" for name, n in small.items())
        )
        return replace(
            self,
            classes={k: v for k, v in self.classes.items() if k not in small},
            lines=(*self.lines, line),
        )
