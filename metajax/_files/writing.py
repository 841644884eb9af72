"""Files, and folders of files, that are written whole or not at all."""

import contextlib
import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from metajax.errors import InputError

Block = str | bytes | memoryview

OUTPUTS = (1, 2)  # standard output and standard error
WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
TEMPORARY = ".metajax-*.tmp"  # a file that a kill leaves; names must stay short


def write_whole(path: Path, content: Block) -> None:
    """Writes a file whole or not at all; see `write_blocks`."""
    write_blocks(path, [content])


def write_blocks(path: Path, blocks: Iterable[Block]) -> None:
    """Writes a file of blocks, which may be made lazily, whole or not at all.

    Of several processes that write to one path, each writes a whole file. A link is
    kept and its target written. The file gets the permissions of the one that it
    replaces. A pipe, a terminal or another stream is written to directly.

    Args:
      path: of the file.
      blocks: its contents, in order.

    Raises:
      InputError: if the path is that of a folder, a socket or a disk, or a link that
        leads back to itself.
      OSError: if it cannot be written, or is read-only.
    """
    place = writable_place(path)
    if place is not None and _is_read_only(place):
        raise PermissionError(errno.EACCES, "the file is read-only", str(path))
    opened = _stream(path) if place is None else _replacing(place)
    with opened as file:
        for block in blocks:
            file.write(block.encode() if isinstance(block, str) else block)


def writable_place(path: Path) -> Path | None:
    """The ordinary file that writing to a path replaces or makes, links followed.

    Args:
      path: of a file that is to be written.

    Returns:
      The path of that file; None for a stream, which is written to directly.

    Raises:
      InputError: see `write_blocks`.
    """
    there = _status(path)
    place = Path(os.path.realpath(path))
    if there is None:
        return place
    kind = there.st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or _own_output(there) is not None:
        return None
    if not stat.S_ISREG(kind):
        what = "folder" if stat.S_ISDIR(kind) else "socket or a disk"
        raise InputError(f"expected a file to write, and {path} is a {what}")
    return place if place.exists() else None  # an open file may have lost its path


def check_writable(name: str, path: Path) -> None:
    """Refuses, before anything is computed, a path that cannot be written.

    Args:
      name: of the path, for the message: a flag, for instance.
      path: of a file that is to be written.

    Raises:
      InputError: if the path is a folder or read-only, or its folder does not exist or
        is read-only; and see `write_blocks`.
    """
    if (there := _status(path)) is not None and stat.S_ISDIR(there.st_mode):
        raise InputError(f"{name} must be a file, and {path} is a folder")
    place = writable_place(path)
    if place is not None and _is_read_only(place):
        raise InputError(
            f"{name} would be written over {path}, which is read-only; choose another "
            "name, or let it be written (chmod u+w)"
        )
    if place is not None:
        _check_inside(name, place.parent)
    elif not os.access(path, os.W_OK):
        raise InputError(f"{name} is {path}, which you may not write to")


def check_new_folder(name: str, path: Path) -> None:
    """Refuses, before anything is computed, a folder that cannot be made.

    Args:
      name: of the path, for the message: a flag, for instance.
      path: of a folder that is to be written by `new_folder`.

    Raises:
      InputError: if there is a file or a folder that is not empty, or its folder does
        not exist or is read-only.
    """
    there = _status(path)
    if there is not None and not stat.S_ISDIR(there.st_mode):
        raise InputError(f"{name} must be a folder, and {path} is a file")
    if there is not None and (count := len(os.listdir(path))):
        raise InputError(
            f"{name} must be a new folder or an empty one, and {path} holds {count} "
            "files or folders; choose another name, or move them away"
        )
    _check_inside(name, Path(os.path.realpath(path)).parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes that of a path if nothing goes wrong.

    Args:
      path: of the folder; there is none, or an empty one. A link is kept.

    Yields:
      A folder beside it.

    Raises:
      OSError: if it cannot be written, or the path is that of anything else.

    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp()) / "new"
    >>> with new_folder(place) as folder:
    ...     _ = (folder / "a.txt").write_text("a")
    >>> [path.name for path in place.iterdir()]
    ['a.txt']
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(TEMPORARY.replace("*", uuid.uuid4().hex))
    beside.mkdir()
    try:
        yield beside
        with contextlib.suppress(FileNotFoundError):
            place.rmdir()
        beside.rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of that of a path if nothing goes wrong.

    Args:
      path: of the folder; what is in one that is there is removed. A link is kept.

    Yields:
      A folder beside it.

    Raises:
      OSError: if it cannot be written, or the path is that of anything else.
    """
    place = Path(os.path.realpath(path))
    fresh, old = (
        place.with_name(TEMPORARY.replace("*", uuid.uuid4().hex)) for _ in "ab"
    )
    try:
        with new_folder(fresh) as folder:
            yield folder
        with contextlib.suppress(FileNotFoundError):
            place.rename(old)
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_inside(name: str, folder: Path) -> None:
    """Refuses a folder in which nothing can be made."""
    if not folder.is_dir():
        raise InputError(f"{name} is in {folder}, which is not a folder; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{name} is in {folder}, which you may not write to")


def is_stdout(path: Path) -> bool:
    """Whether writing to a path writes to the process's standard output."""
    there = _status(path)
    return there is not None and _own_output(there) == OUTPUTS[0]


def _status(path: Path) -> os.stat_result | None:
    """The status of the file that a path leads to; None if there is no such file."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"the name {path} is too long; choose another") from error
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path} is a link that leads back to itself") from error


def _is_read_only(path: Path) -> bool:
    """Whether nobody may write to a file, although root could."""
    there = _status(path)
    return there is not None and not there.st_mode & WRITABLE


def _own_output(there: os.stat_result) -> int | None:
    """Which of the process's outputs a file is; None if it is neither."""
    for number in OUTPUTS:
        with contextlib.suppress(OSError):  # it may be closed
            if os.path.samestat(os.fstat(number), there):
                return number
    return None


@contextlib.contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    own = _own_output(path.stat())
    if own is None:
        with path.open("wb") as file:
            yield file
        return
    for stream in (sys.stdout, sys.stderr):  # what was printed came before
        stream.flush()
    with os.fdopen(os.dup(own), "wb") as file:  # to open it anew would begin it anew
        yield file


@contextlib.contextmanager
def _replacing(place: Path) -> Iterator[BinaryIO]:
    """A file beside a path that replaces the file there, if nothing goes wrong."""
    beside = place.with_name(TEMPORARY.replace("*", uuid.uuid4().hex))
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _keep_permissions(place, beside)
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)


def _keep_permissions(old: Path, new: Path) -> None:
    there = _status(old)
    if there is None:
        return
    with contextlib.suppress(PermissionError):  # only root may give files away
        os.chown(new, there.st_uid, there.st_gid)
    new.chmod(stat.S_IMODE(there.st_mode))
