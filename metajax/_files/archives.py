"""Reading archives that somebody else made, without trusting their sizes."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

METHODS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # unpacked a piece at a time
ROOM = 2**24  # bytes of a tar archive besides the files that are asked for
PIECE = 2**16


def read_member(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes:
    """Reads a member of a zip archive, with at most `most` bytes of it in memory.

    Raises:
      OSError: if it has more bytes, or is packed by an unusual method.
    """
    info = archive.getinfo(name)
    if info.compress_type not in METHODS:
        raise OSError(f"{name} is packed by method {info.compress_type}")
    if info.file_size > most:
        raise OSError(f"{name} has {info.file_size} bytes, expected at most {most}")
    with archive.open(info) as member:
        return member.read(most)  # and no more, whatever size it claims


def read_tar(path: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Reads some files of a .tar.gz, whose sizes are known.

    Nothing is written. The archive is read to its end, for its checksum, but at most as
    far as files of these sizes, and 16 MiB more, can reach.

    Args:
      path: the archive.
      sizes: the size of each file, by its name in the archive.

    Returns:
      The bytes of each file, by its name.

    Raises:
      OSError: if a file is missing, is there twice, is not a plain file or has another
        size, or the archive unpacks to more; gzip and tarfile raise other errors if it
        is damaged.
    """
    contents: dict[str, bytes] = {}
    with gzip.open(path) as packed:
        stream = _Bounded(packed, sum(sizes.values()) + ROOM)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if (name := member.name) not in sizes:
                    continue
                if name in contents:
                    raise OSError(f"{name} is in it twice")
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or member.issparse():
                    raise OSError(f"{name} is not a plain file")
                if member.size != sizes[name]:
                    raise OSError(
                        f"{name} has {member.size} bytes, expected {sizes[name]}"
                    )
                contents[name] = content.read()
        while stream.read(PIECE):
            pass
    if missing := sorted(sizes.keys() - contents):
        raise OSError(f"it has no {' or '.join(missing)}")
    return contents


class _Bounded(io.BufferedIOBase):
    """A stream that refuses to be read past a number of bytes."""

    def __init__(self, file: gzip.GzipFile, most: int):
        self.file, self.left = file, most

    def read(self, size: int | None = -1, /) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise OSError("it unpacks to more than it should")
        return content
