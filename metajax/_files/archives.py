"""Archives that somebody else made."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

METHODS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # unpacked a piece at a time
ROOM = 2**24  # bytes of a tar archive beside the files that are asked for
PIECE = 2**16


def read_member(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes:
    """The bytes of a member, never more than `most` of them in memory.

    Raises:
      OSError: if there are more, or they are packed otherwise than is usual.
    """
    info = archive.getinfo(name)
    if info.compress_type not in METHODS:
        raise OSError(f"{name} is packed by method {info.compress_type}")
    if info.file_size > most:
        raise OSError(f"{name} has {info.file_size} bytes, expected at most {most}")
    with archive.open(info) as member:
        return member.read(most)  # and no more, whatever it says of its size


def read_tar(path: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """The bytes of some files of a .tar.gz, each of the size it must have.

    Nothing is written. The archive is read to its end, for its checksum, but no further
    than such files and a little more can reach.

    Args:
      path: the archive.
      sizes: the size of each file, by its name in the archive.

    Returns:
      The bytes of each.

    Raises:
      OSError: if one is missing, twice there, no plain file or of another size, or the
        archive unpacks to much more; gzip and tarfile raise others if it is damaged.
    """
    found: dict[str, bytes] = {}
    with gzip.open(path) as packed:
        stream = _Bounded(packed, sum(sizes.values()) + ROOM)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if (name := member.name) not in sizes:
                    continue
                if name in found:
                    raise OSError(f"{name} is in it twice")
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or member.issparse():
                    raise OSError(f"{name} is no plain file")
                if member.size != sizes[name]:
                    raise OSError(
                        f"{name} has {member.size} bytes, expected {sizes[name]}"
                    )
                found[name] = content.read()
        while stream.read(PIECE):
            pass
    if missing := sorted(sizes.keys() - found):
        raise OSError(f"it has no {' or '.join(missing)}")
    return found


class _Bounded(io.BufferedIOBase):
    """A stream from which no more than so many bytes are read."""

    def __init__(self, file: gzip.GzipFile, most: int):
        self.file, self.left = file, most

    def read(self, size: int | None = -1, /) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise OSError("it unpacks to more than it should")
        return content
