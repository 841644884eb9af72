"""The record of a run's data, `data.json`: the hash of every file of its splits."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from metajax._files.writing import write_whole
from metajax.data.folders.contents import Contents, differences, digest_of, shared
from metajax.errors import InputError
from metajax.experiments.backbone import BEST
from metajax.experiments.published import file_of, is_published
from metajax.experiments.tasks import Source, Split, Task

FILE = "data.json"
OTHER = "its digest is another"
SHOWN, DIGITS = 20, 8  # characters of a folder and of a digest, in a file's name
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Examples(NamedTuple):
    """The examples of a split that a run is measured on.

    Attributes:
      folder: where they are, as text; None if they are computed.
      digest: of their names and contents; None if they are computed.
      why: why they may not be the run's own; empty if they are its own.
      foreign: whether they are known not to be its own.
      named: whether the name of a result says which they are.
    """

    folder: str | None = None
    digest: str | None = None
    why: str = ""
    foreign: bool = False
    named: bool = False

    @property
    def suffix(self) -> str:
        """The part of a file's name that says which data; else empty."""
        if not self.named:
            return ""
        return f"-{Path(self.folder or '').name[:SHOWN]}-{(self.digest or '')[:DIGITS]}"

    @property
    def facts(self) -> dict[str, str | None]:
        """The folder and the digest, by their names in a protocol."""
        return {"data_folder": self.folder, "data_digest": self.digest}


def keep_data(
    directory: Path,
    task: Task,
    splits: Iterable[Split] = SPLITS,
    *,
    body: Path | None = None,
) -> None:
    """Records the data of a new run, or checks that those of a run have not changed.

    It warns of files that splits share, also with the data that a body was trained on,
    or chosen by.

    Args:
      directory: the run's.
      task: of its data.
      splits: that the run takes.
      body: the directory, or file, of a pre-trained body that the run begins with.

    Raises:
      InputError: if the data have changed, or the record is damaged.
    """
    if task.source is None:
        return
    known = _recorded(directory)
    contents = task.source.contents
    present: dict[Split, Contents] = {split: contents(split) for split in splits}
    _check_unchanged(directory, task.source, known, present)
    for one, other in combinations(present, 2):
        _warn_of_shared((other, present[other]), (one, present[one]))
    if body is not None:
        _warn_of_body(body, present)
    if present.keys() <= known.keys():
        return
    if not known and (directory / "checkpoints").exists():
        print(
            f"warning: {directory} did not record its data; it is taken to have been "
            f"trained on {_text(task.source)} as it is now",
            file=sys.stderr,
        )
    record = {"folder": _text(task.source), "splits": {**known, **present}}
    write_whole(directory / FILE, json.dumps(record) + "\n")


def _check_unchanged(
    directory: Path,
    source: Source,
    known: Mapping[Split, Contents],
    present: Mapping[Split, Contents],
) -> None:
    changes = [
        f"{split}: {change}"
        for split in present
        if split in known and (change := differences(known[split], present[split]))
    ]
    if changes:
        raise InputError(
            f"{directory} is a run of other data than {_text(source)} "
            f"({'; '.join(changes)}); give it the files that it began with, or choose "
            "another --run-dir"
        )


def examples(directory: Path, task: Task, split: Split) -> Examples:
    """The examples of a split, and whether they are the run's own.

    It warns of examples that are not the run's own and are among its training data.

    Raises:
      InputError: if the examples cannot be read, or the run's record is damaged.
    """
    if task.source is None:
        return Examples()
    known, contents = _recorded(directory), task.source.contents(split)
    folder, own, digest = _text(task.source), digests(directory), digest_of(contents)
    if split not in own:
        why = f"{directory} did not record its {split} data; metajax train does"
    elif own[split] == digest:
        why = ""
    else:
        changes = split in known and differences(known[split], contents)
        why = f"{folder} is not the data of {directory}: {changes or OTHER}"
    if why and split != "train":
        _warn_of_trained(known, split, contents)
    foreign = bool(why) and split in own
    return Examples(folder, digest, why, foreign, named=bool(why))


def digests(run: Path) -> dict[str, str]:
    """The digest of each split that a run has recorded.

    Args:
      run: its directory; or its published file, which holds no more of its data.

    Raises:
      InputError: if the record is damaged.
    """
    content = file_of(run, FILE)
    if content is None or not is_published(run):
        return {split: digest_of(known) for split, known in _recorded(run).items()}
    try:
        return {str(split): str(x) for split, x in dict(json.loads(content)).items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{run} is damaged in its {FILE}; publish it again") from error


def other_examples(
    directory: Path, task: Task, split: Split, *, named: bool
) -> Examples:
    """The examples of a split of another family than the run's.

    It warns of those that are among the run's training data.

    Args:
      directory: the run's.
      task: of the other family.
      split: which part of them.
      named: whether the name of a result says which they are.

    Raises:
      InputError: if the examples cannot be read, or the run's record is damaged.
    """
    if task.source is None:
        return Examples()
    contents = task.source.contents(split)
    _warn_of_trained(_recorded(directory), split, contents)
    return Examples(_text(task.source), digest_of(contents), named=named)


def _warn_of_body(body: Path, present: Mapping[Split, Contents]) -> None:
    """Warns of what the splits share with those of a body's pre-training."""
    theirs = _recorded(body if body.is_dir() else body.parent)
    trained = "the body's training data", theirs.get("train", {})
    for split in sorted(present.keys() - {"train"}):
        _warn_of_shared((split, present[split]), trained)
    if body.name == BEST and "test" in present:
        chosen = "the data that the body was chosen by", theirs.get("validation", {})
        _warn_of_shared(("test", present["test"]), chosen)


def _warn_of_trained(
    known: Mapping[Split, Contents], split: Split, contents: Contents
) -> None:
    trained = known.get("train", {})
    _warn_of_shared((split, contents), ("the run's training data", trained))


def _warn_of_shared(ours: tuple[str, Contents], theirs: tuple[str, Contents]) -> None:
    for what in shared(ours[1], theirs[1]):
        print(f"warning: {ours[0]} shares with {theirs[0]} {what}", file=sys.stderr)


def _recorded(directory: Path) -> dict[Split, Contents]:
    """The contents of the splits of a run; empty if the run has no record."""
    path, content = directory / FILE, file_of(directory, FILE)
    if content is None or is_published(directory):
        return {}
    try:
        splits = json.loads(content)["splits"]
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
    """The whole path of a source's folder, as text that UTF-8 can encode."""
    return os.fsencode(source.folder.resolve()).decode(errors="backslashreplace")
