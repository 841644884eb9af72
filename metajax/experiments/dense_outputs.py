"""What `metajax label --masks` and `--boxes` write: checked first, then written."""

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from metajax._files.writing import check_writable, is_stdout, write_whole
from metajax.data.dense.coco_folder import ANNOTATIONS
from metajax.data.dense.masks import NAMES
from metajax.data.folders.listing import Loose, list_loose, warn_each
from metajax.experiments.label_checks import (
    check_different,
    check_outside_runs,
    check_replaceable,
)
from metajax.experiments.label_outputs import (
    reported,
    unreadable_list,
    write_unreadable,
)
from metajax.experiments.labelled import blaming
from metajax.labelling import DenseLabeller, DenseTargets, FolderMarks
from metajax.labelling.dense.folder import MOST


@dataclass(frozen=True)
class DenseFiles:
    """The files that the command reads and writes.

    Attributes:
      targets: masks or boxes.
      images: the folder of the pictures to label.
      support: the folder of labelled pictures.
      out: the folder of masks, or the file of boxes.
      html: the page.
    """

    targets: DenseTargets
    images: Path
    support: Path
    out: Path
    html: Path | None = None

    @property
    def flag(self) -> str:
        """What the command calls `out`."""
        return f"--{self.targets.name}"

    @property
    def list_name(self) -> str:
        """What the command calls the list of pictures that could not be read."""
        return f"the list of what {self.flag} could not read"

    def check(self) -> Loose:
        """Refuses, before anything is computed, what would fail at the end.

        Returns:
          The pictures to label, and what else is in their folder.

        Raises:
          InputError: if a path cannot be written, or is of a file that is read, or
            there are no pictures.
        """
        with blaming("--images"):
            images = list_loose(self.images)
        self.targets.check(self.flag, self.out, self.images, images.names)
        others = {self.list_name: unreadable_list(self.out), "--html": self.html}
        files = {name: path for name, path in others.items() if path is not None}
        for name, path in files.items():
            check_writable(name, path)
        files = {self.flag: self.out, **files}
        check_different(files)
        read = [("--support", self.support / x) for x in (ANNOTATIONS, *NAMES)]
        for name, path in files.items():
            check_replaceable(name, path, read=read)
            check_outside_runs(name, path)
        return images

    def write(self, labeller: DenseLabeller, images: Loose) -> None:
        """Writes the files that were asked for.

        Args:
          labeller: the labeller.
          images: what `check` returned.
        """
        warn_each(images.lines)
        count = len(images.names)
        print(f"labelling {count} pictures", file=sys.stderr)
        beside = unreadable_list(self.out)
        shown = MOST if self.html else 0
        marks = FolderMarks(labeller, self.images, images.names, shown=shown)
        self.targets.write(self.out, labeller.names, reported(marks, count))
        for k in labeller.classes:
            print(f"{marks.shows[labeller.names[k]]:>8} with {labeller.names[k]}")
        written = f"{self.targets.name} of {marks.counts.total()} pictures"
        print(f"{written} written to {self.out}")
        write_unreadable(beside, marks.unreadable)
        if self.html is not None:
            write_whole(self.html, marks.page().encode(errors="backslashreplace"))
            print(f"shown in {self.html}{marks.gallery.excerpt()}")

    def stdout_apart(self) -> AbstractContextManager:
        """Prints to standard error while standard output is a file to write."""
        if is_stdout(self.out) or (self.html is not None and is_stdout(self.html)):
            return redirect_stdout(sys.stderr)
        return nullcontext()
