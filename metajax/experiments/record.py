"""Which data a run is of: `data.json`, the hash of every file of its splits."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from metajax._files.writing import write_whole
from metajax.data.contents import Contents, differences, digest_of, shared
from metajax.errors import InputError
from metajax.experiments.tasks import Source, Split, Task

FILE = "data.json"
SHOWN, DIGITS = 20, 8  # of a folder's name and of a digest, in the name of a file
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Examples(NamedTuple):
    """The examples of a split that a run is measured on.

    Attributes:
      folder: where they are, as text; None where they are computed.
      digest: of their names and contents; likewise.
      why: why they are not known to be the run's own; empty if they are.
      foreign: whether they are known not to be.
    """

    folder: str | None = None
    digest: str | None = None
    why: str = ""
    foreign: bool = False

    @property
    def suffix(self) -> str:
        """What names data that are not the run's own in the name of a file."""
        if not self.why:
            return ""
        return f"-{Path(self.folder or '').name[:SHOWN]}-{(self.digest or '')[:DIGITS]}"

    @property
    def facts(self) -> dict[str, str | None]:
        """For a protocol."""
        return {"data_folder": self.folder, "data_digest": self.digest}


def keep_data(
    directory: Path,
    task: Task,
    splits: Iterable[Split] = SPLITS,
    *,
    body: Path | None = None,
) -> None:
    """Records the data of a run that begins, or sees that they are still the same.

    What splits have in common, or what a body was trained on, is warned of.

    Args:
      directory: the run's.
      task: of its data.
      splits: those that it takes.
      body: the directory, or file, of a pre-trained body that it begins with.

    Raises:
      InputError: if they are not, or the record is damaged.
    """
    if task.source is None:
        return
    known, seen = _recorded(directory), _trained_on(body)
    found = {split: task.source.contents(split) for split in splits}
    changes = {
        split: differences(known[split], found[split])
        for split in found
        if split in known
    }
    if any(changes.values()):
        told = "; ".join(f"{split}: {what}" for split, what in changes.items() if what)
        raise InputError(
            f"{directory} is a run of other data than {_text(task.source)} ({told}); "
            "give it the files that it began with, or choose another --run-dir"
        )
    for one, other in combinations(found, 2):
        _warn_of_shared((other, found[other]), (one, found[one]))
    for split in sorted(found.keys() - {"train"}):
        _warn_of_shared((split, found[split]), ("the body's training data", seen))
    if found.keys() <= known.keys():
        return
    if not known and (directory / "checkpoints").exists():
        print(
            f"warning: {directory} did not record its data; it is taken to have been "
            f"trained on {_text(task.source)} as it is now",
            file=sys.stderr,
        )
    record = {"folder": _text(task.source), "splits": {**known, **found}}
    write_whole(directory / FILE, json.dumps(record) + "\n")


def examples(directory: Path, task: Task, split: Split) -> Examples:
    """The examples of a split, and whether they are the run's own.

    Those that are not, and are also among its training data, are warned of.

    Raises:
      InputError: if they cannot be read, or the run's record is damaged.
    """
    if task.source is None:
        return Examples()
    known, contents = _recorded(directory), task.source.contents(split)
    folder = _text(task.source)
    if split not in known:
        why = f"{directory} did not record its {split} data; metajax train does"
    elif changes := differences(known[split], contents):
        why = f"{folder} is not the data of {directory}: {changes}"
    else:
        why = ""
    if why and split != "train":
        trained = known.get("train", {})
        _warn_of_shared((split, contents), ("the run's training data", trained))
    return Examples(folder, digest_of(contents), why, bool(why) and split in known)


def _trained_on(body: Path | None) -> Contents:
    if body is None:
        return {}
    return _recorded(body if body.is_dir() else body.parent).get("train", {})


def _warn_of_shared(ours: tuple[str, Contents], theirs: tuple[str, Contents]) -> None:
    for what in shared(ours[1], theirs[1]):
        print(f"warning: {ours[0]} shares with {theirs[0]} {what}", file=sys.stderr)


def _recorded(directory: Path) -> dict[Split, Contents]:
    """The contents of the splits of a run; none of one that has no record."""
    path = directory / FILE
    if not path.exists():
        return {}
    try:
        splits = json.loads(path.read_bytes())["splits"]
        if not all(_is_contents(splits[split]) for split in splits):
            raise ValueError("a split is not hashes of files by class")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged ({error}); delete it, and metajax train records the "
            "data anew"
        ) from error
    return splits


def _is_contents(plain: object) -> bool:
    return isinstance(plain, Mapping) and all(
        isinstance(files, Mapping) and all(isinstance(x, str) for x in files.values())
        for files in plain.values()
    )


def _text(source: Source) -> str:
    """A folder's whole path, of which UTF-8 is made."""
    return os.fsencode(source.folder.resolve()).decode(errors="backslashreplace")
