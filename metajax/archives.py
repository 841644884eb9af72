"""Zip archives that somebody else made."""

import zipfile

METHODS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # unpacked a piece at a time


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
