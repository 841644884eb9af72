"""Which pictures are labelled ones, by the content of their files."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Contents(Generic[T]):
    """The classes of files, groups again by content.

    Args:
      classes: from `content_of` each file to its class.
    """

    def __init__(self, classes: Mapping[str, T]):
        self._classes = classes
        self._sizes = {content.partition(":")[0] for content in classes}

    def class_of(self, path: Path) -> T | None:
        """The class of a file of the same content; None if there is none."""
        try:
            if str(path.stat().st_size) not in self._sizes:
                return None
            return self._classes.get(content_of(path))
        except OSError:  # a file that cannot be read is refused where it is decoded
            return None


def content_of(path: Path) -> str:
    """The size of a file and the SHA-256 of its bytes, as `SIZE:DIGEST`."""
    content = path.read_bytes()
    return f"{len(content)}:{hashlib.sha256(content).hexdigest()}"


def classes_by_content(files: Sequence[Path], classes: Sequence[T]) -> dict[str, T]:
    """The class of each content; a content of two classes is left out.

    Args:
      files: of the pictures.
      classes: the class of each.
    """
    groups: dict[str, set[T]] = {}
    for path, name in zip(files, classes):
        groups.setdefault(content_of(path), set()).add(name)
    return {key: next(iter(own)) for key, own in groups.items() if len(own) == 1}
