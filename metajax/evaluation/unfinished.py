"""The scores of an evaluation that is not finished."""

import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from metajax._files.writing import write_whole
from metajax.types import Array

Scores = tuple[Array, Array]  # of one call: transductive and inductive
SHARE = 20  # writing takes one second in so many


class Unfinished:
    """A file of the scores of the calls that are done, written wholly or not at all.

    It belongs to one evaluation: what another has left is not used, nor a damaged file.

    Args:
      path: the file; None keeps nothing.
      owner: all that decides the scores, as text.
    """

    def __init__(self, path: str | Path | None, owner: str):
        self._path = None if path is None else Path(path)
        self._owner, self._due, self._kept = owner, 0.0, 0

    def read(self) -> list[Scores]:
        """The scores that are kept, a pair a call."""
        if self._path is None or not self._path.exists():
            return []
        content = BytesIO(self._path.read_bytes())
        try:
            with np.load(content, allow_pickle=False) as file:
                if str(file["owner"]) != self._owner:
                    return []
                scores = list(zip(file["together"], file["apart"]))
        except Exception:  # numpy and zipfile raise many kinds for a damaged file
            return []
        self._kept = len(scores)
        return scores

    def offer(self, scores: Sequence[Scores]) -> None:
        """Writes the scores unless that would take too much of the time."""
        if time.monotonic() >= self._due:
            self.write(scores)

    def write(self, scores: Sequence[Scores]) -> None:
        """Writes the scores, if there are new ones."""
        if self._path is None or len(scores) == self._kept:
            return
        began, file = time.monotonic(), BytesIO()
        together, apart = zip(*scores)
        np.savez(
            file, owner=self._owner, together=np.stack(together), apart=np.stack(apart)
        )
        write_whole(self._path, file.getvalue())
        ended, self._kept = time.monotonic(), len(scores)
        self._due = ended + SHARE * (ended - began)
