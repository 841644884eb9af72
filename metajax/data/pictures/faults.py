"""One error for all files, and lines of tables, that cannot be used."""

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from metajax._files.writing import write_whole
from metajax.errors import Fault, FilesError, InputError

SHOWN = 20  # faults in a message, where there is a file that lists all of them
# What a place is, by its first word; a file otherwise.
KINDS = {
    "line": "lines of tables",
    "annotation": "annotations",
    "image": "entries of images",
    "category": "entries of categories",
}


def gather_faults(
    faults: Iterable[Fault], folder: Path, most: int | None = None
) -> FilesError:
    """The error of faults, which counts them and lists them all.

    Args:
      faults: one or more; those that are there twice count once.
      folder: paths of files are written below it.
      most: how many the message lists; all of them if None.

    Returns:
      A `FilesError`.
    """
    faults = list(dict.fromkeys(faults))
    return FilesError(_message(faults, folder, most=most), faults)


def write_faults(error: FilesError, folder: Path, to: Path | None) -> FilesError:
    """Writes a long list of faults to a file, and shortens the message.

    Args:
      error: of the faults.
      folder: as in `gather_faults`.
      to: a CSV file, of the columns `file` and `reason`; written only if there are more
        faults than a message shows. None for no file.

    Returns:
      The error, whose message names the file and the first faults if it was written.
    """
    if to is None or len(error.faults) <= SHOWN:
        return error
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", "reason"])
    rows.writerows([fault.place, fault.reason] for fault in error.faults)
    with contextlib.suppress(OSError, InputError):  # the message lists all instead
        to.parent.mkdir(parents=True, exist_ok=True)
        write_whole(to, text.getvalue().encode(errors="backslashreplace"))
        return FilesError(_message(error.faults, folder, to), error.faults)
    return error


def _message(
    faults: Sequence[Fault],
    folder: Path,
    listed: Path | None = None,
    most: int | None = None,
) -> str:
    if len(faults) == 1:
        place, reason, mend = faults[0]
        return f"{place} {reason}; {mend}"
    shown = faults[: SHOWN if listed else most]
    by_reason: dict[str, list[str]] = {}
    for place, reason, _ in shown:
        by_reason.setdefault(reason, []).append(_below(folder, place))
    said = "; ".join(f"{', '.join(x)} {reason}" for reason, x in by_reason.items())
    rest = len(faults) - len(shown)
    where = f", all listed in {listed}" if listed else ""
    more = f"; and {rest} more{where}" if rest else ""
    mends = "; ".join(dict.fromkeys(fault.mend for fault in faults))
    kinds = {KINDS.get(fault.place.partition(" ")[0], "files") for fault in faults}
    what = " or ".join(sorted(kinds))
    return f"{len(faults)} {what} in {folder} cannot be used: {said}{more}; {mends}"


def _below(folder: Path, place: str) -> str:
    return place.replace(f"{folder}{os.sep}", "")
