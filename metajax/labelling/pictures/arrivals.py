"""Pictures that arrive in a folder."""

from collections.abc import Iterable
from pathlib import Path

from metajax.data.folders.listing import warn_each
from metajax.data.folders.names import as_text
from metajax.data.folders.tree import walk
from metajax.errors import InputError

State = tuple[int, int]  # of a file: its size, and when it was changed


class Arrivals:
    """The pictures of a folder, at any depth, each returned once it is whole.

    A picture is whole if its size and time of change are those of the last look. It is
    returned again only if it changes before it is done. A folder that cannot be read is
    warned of once, and looked into again each time.

    Args:
      folder: the folder.
      done: files that are never returned, by their paths below it, as a table has them.

    >>> import os, tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> arrivals = Arrivals(folder)
    >>> _ = (folder / "a.png").write_bytes(b"the first half")
    >>> arrivals.look()
    []
    >>> _ = (folder / "a.png").write_bytes(b"the first half and the second")
    >>> arrivals.look(), arrivals.look(), arrivals.look()
    ([], ['a.png'], [])
    """

    def __init__(self, folder: Path, done: Iterable[str] = ()):
        self.folder, self._done = folder, set(done)
        self._warned: set[str] = set()
        self._last: dict[str, State] = {}
        self._returned: dict[str, State] = {}

    def look(self) -> list[str]:
        """The pictures that are whole, sorted by name."""
        states = self._states()
        whole = [
            file
            for file, state in states.items()
            if self._last.get(file) == state != self._returned.get(file)
        ]
        self._last = states
        self._returned.update({file: states[file] for file in whole})
        return sorted(whole)

    def finish(self, file: str) -> None:
        """Never returns a file again."""
        self._done.add(as_text(file))
        self._last.pop(file, None)

    def __contains__(self, file: str) -> bool:
        """Whether a file was there at the last look, and is not done."""
        return file in self._last

    def _warn(self, error: InputError) -> None:
        text = str(error)
        warn_each({text} - self._warned)
        self._warned.add(text)

    def _states(self) -> dict[str, State]:
        tree = walk(self.folder, self._warn)
        states: dict[str, State] = {}
        for path in (path for files in tree.images.values() for path in files):
            file = path.relative_to(self.folder).as_posix()
            if as_text(file) not in self._done:
                try:
                    there = path.stat()
                except OSError:  # it has gone, or leads nowhere
                    continue
                states[file] = there.st_size, there.st_mtime_ns
        return states
