"""What is in a data set, by the hash of every file: whether two are the same."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metajax._files.writing import write_whole
from metajax.data.folders.names import Classes
from metajax.data.images import ImageStore
from metajax.errors import InputError

Contents = Mapping[str, Mapping[str, str]]
"""The hash of every file of every class, by the file's path in the data set."""

HASH_BYTES = 16


def hash_files(folder: Path, classes: Classes, *, kept: Path) -> Contents:
    """The contents of files.

    Args:
      folder: what their names are told below.
      classes: the files of each class.
      kept: a file for the hashes, so that a file is read again only if its name, size
        or a time of change is another. It need not be there, nor be writable.

    Returns:
      `Contents`.

    Raises:
      InputError: if a file cannot be read.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.png").write_bytes(b"picture")
    >>> hashes = hash_files(folder, {"a": [folder / "a.png"]}, kept=folder / "hashes")
    >>> hashes["a"]["a.png"] == hash_bytes(b"picture")
    True
    """
    before = _read(kept)
    names = {
        path: Path(os.path.relpath(path, folder)).as_posix()
        for files in classes.values()
        for path in files
    }

    def entry(path: Path) -> list[Any]:
        stamp = list(stamp_of(path))
        was = before.get(names[path])
        if isinstance(was, list) and was[:-1] == stamp:
            return was
        return [*stamp, _hash_file(path)]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        entries = dict(zip(names.values(), threads.map(entry, names)))
    if entries != before:
        with contextlib.suppress(OSError):  # it only saves time
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, json.dumps(entries))
    return {
        name: {names[path]: entries[names[path]][-1] for path in files}
        for name, files in classes.items()
    }


def stamp_of(path: Path) -> tuple[int, ...]:
    """Numbers of a file that change when it is written or replaced.

    The time of change of its inode too: `cp -p` and `touch` set the other at will.

    Raises:
      OSError: if it is not there.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def hash_store(store: ImageStore) -> Contents:
    """The contents of stored images, of which all of a class count as one file.

    >>> images = np.zeros((1, 2, 8, 8, 1), np.uint8)
    >>> hashes = hash_store(ImageStore(images, np.array([2]), ("Greek/alpha",)))
    >>> hashes == {"Greek/alpha": {"images": hash_bytes(images[0].tobytes())}}
    True
    """
    places = ((np.full(n, i), np.arange(n)) for i, n in enumerate(store.counts))
    hashes = (hash_bytes(np.asarray(store.images[place]).tobytes()) for place in places)
    return {name: {"images": digest} for name, digest in zip(store.names, hashes)}


def hash_bytes(content: bytes) -> str:
    """BLAKE2b of bytes."""
    return hashlib.blake2b(content, digest_size=HASH_BYTES).hexdigest()


def digest_of(contents: Contents) -> str:
    """What tells one data set from another: a digest of names and contents."""
    return hash_bytes(json.dumps(contents, sort_keys=True).encode())


def differences(before: Contents, after: Contents) -> str:
    """What was changed, in words; empty if nothing was.

    >>> was = {"a": {"a/1.png": "11", "a/2.png": "22"}}
    >>> differences(was, {"a": {"a/1.png": "11", "a/3.png": "99"}})
    '1 removed, such as a/2.png, 1 added, such as a/3.png'
    """
    old, new = _flat(before), _flat(after)
    sets = {
        "removed": old.keys() - new.keys(),
        "added": new.keys() - old.keys(),
        "changed": {name for name in old.keys() & new.keys() if old[name] != new[name]},
    }
    return ", ".join(
        f"{len(names)} {what}, such as {min(names)[1]}"
        for what, names in sets.items()
        if names
    )


def shared(ours: Contents, theirs: Contents) -> Iterator[str]:
    """What two splits have in common, in words: names of classes, and whole files.

    >>> list(shared({"a": {"x.png": "1"}}, {"a": {"y.png": "2"}, "b": {"z.png": "1"}}))
    ['1 class name, such as a', '1 picture, such as x.png, which is z.png there']
    """
    if names := sorted(ours.keys() & theirs.keys()):
        yield f"{_counted(len(names), 'class name')}, such as {names[0]}"
    there = {digest: file for (_, file), digest in _flat(theirs).items()}
    same = [(file, there[x]) for (_, file), x in _flat(ours).items() if x in there]
    if same:
        here, other = same[0]
        count = _counted(len(same), "picture")
        yield f"{count}, such as {here}, which is {other} there"


def _counted(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count} {what}{plural if count > 1 else ''}"


def _flat(contents: Contents) -> dict[tuple[str, str], str]:
    return {
        (name, file): digest
        for name, files in contents.items()
        for file, digest in files.items()
    }


def _hash_file(path: Path) -> str:
    try:
        if not path.is_file():  # to read a pipe is to wait
            raise OSError("it is not a file")
        with path.open("rb") as file:
            new = partial(hashlib.blake2b, digest_size=HASH_BYTES)
            return hashlib.file_digest(file, new).hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error}); delete it or mend it"
        ) from error


def _read(kept: Path) -> dict[str, Any]:
    try:
        entries = json.loads(kept.read_bytes())
    except (OSError, ValueError, RecursionError):  # none yet, or damaged
        return {}
    return entries if isinstance(entries, dict) else {}
