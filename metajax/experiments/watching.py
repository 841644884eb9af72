"""What `metajax label --watch` does: it labels pictures as they arrive."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metajax._files.writing import check_writable
from metajax.data.folders.listing import check_folder, warn_each
from metajax.data.folders.survey import survey
from metajax.data.pictures.unlabelled import Unreadable
from metajax.errors import StoppedError
from metajax.experiments.interrupt import Signals
from metajax.experiments.label_checks import (
    check_different,
    check_outside_runs,
    check_replaceable,
    is_labels,
    is_list,
)
from metajax.experiments.label_outputs import LIST, unreadable_list, write_unreadable
from metajax.experiments.labelled import blaming
from metajax.labelling import FolderLabels, Labeller
from metajax.labelling.pictures.arrivals import Arrivals
from metajax.labelling.trust.comparison import describe_guess
from metajax.labelling.writing.appending import (
    appending,
    check_appendable,
    labelled_files,
)

SECONDS = 1.0  # between two looks at the folder
DEEPEST = 16  # bits of a sample


class ArrivedLabels(FolderLabels):
    """The labels of pictures that arrived, which do not depend on each other."""

    def bits(self) -> int:
        """The depth of the labelled pictures; all 16 bits where they had none."""
        taught = self.labeller.bits or DEEPEST
        paths = [self.folder / file for file in self.files]
        own, lines = survey(self.folder, paths)
        if own is not None:  # lines on a depth do not hold
            _, lines = survey(self.folder, paths, DEEPEST)
        if own not in (None, taught):
            lines += (
                f"16-bit pictures of {self.folder} that declare no depth are read as "
                f"{taught}-bit, or as deeper where their own samples are; with "
                "--images, the depth is that of the whole folder",
            )
        warn_each(lines)
        return taught


@dataclass(frozen=True)
class WatchFiles:
    """The folder that is watched, and the table of its labels.

    Attributes:
      folder: of the pictures.
      out: the table, which may be there already.
      none: whether pictures may get the label that they are of no class.
      read: the flags of files that are read, and those files.
    """

    folder: Path
    out: Path
    none: bool = False
    read: Sequence[tuple[str, Path]] = ()

    def check(self) -> None:
        """Refuses, before anything is computed, what would fail later.

        Raises:
          InputError: if there is no such folder, or the table cannot be added to.
        """
        with blaming("--watch"):
            check_folder(self.folder)
        beside = unreadable_list(self.out)
        files = {"--out": self.out, **({LIST: beside} if beside else {})}
        for name, path in files.items():
            check_writable(name, path)
            check_outside_runs(name, path)
            known = is_list if name == LIST else is_labels
            check_replaceable(name, path, known, self.read)
        check_different(files)
        check_appendable("--out", self.out)

    def write(self, labeller: Labeller) -> None:
        """Adds labels to the table until a signal stops it.

        Raises:
          Stopped: once Ctrl-C or SIGTERM came.
        """
        if self.none:
            warn_each(describe_guess(labeller))
        done = set(labelled_files(self.out))
        arrivals = Arrivals(self.folder, done)
        print(
            f"watching {self.folder}, {len(done)} pictures of which are labelled; "
            "Ctrl-C ends it",
            file=sys.stderr,
        )
        with Signals() as stop:
            counts = self._watch(labeller, arrivals, stop)
            for name in dict.fromkeys([*labeller.classes, *counts]):
                print(f"{counts[name]:>8} {name}")
            message = f"{counts.total()} pictures are labelled in {self.out}"
            raise StoppedError(message, None)

    def _watch(
        self, labeller: Labeller, arrivals: Arrivals, stop: Callable[[], bool]
    ) -> Counter[str]:
        """Labels what arrives, and counts the labels."""
        counts: Counter[str] = Counter()
        refused: dict[str, Unreadable] = {}
        listed: list[Unreadable] | None = None
        with appending(self.out) as add:
            while not stop():
                files = arrivals.look()
                labels = ArrivedLabels(
                    labeller, self.folder, files, none=self.none, compare=False
                )
                for label in labels if files else ():
                    add(label)
                    arrivals.finish(label.file)
                    counts[label.label] += 1
                    print(f"{label.file}: {label.label} {label.confidence:.0%}")
                    if stop():
                        break
                refused.update({x.file: x for x in labels.unreadable})
                now = [x for file, x in sorted(refused.items()) if file in arrivals]
                if now != listed:
                    write_unreadable(unreadable_list(self.out), listed := now)
                time.sleep(SECONDS)
        return counts
