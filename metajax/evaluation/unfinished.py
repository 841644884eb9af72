"""The records of an evaluation that is not finished."""

import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metajax._files.writing import write_whole
from metajax.types import PyTree

Records = tuple[PyTree, PyTree]  # of one call: transductive and inductive
MODES = "together", "apart"
SHARE = 20  # writing takes one second in so many


class Unfinished:
    """A file of the records of the calls that are done, written wholly or not at all.

    It belongs to one evaluation: what another has left is not used, nor a damaged file.

    Args:
      path: the file; None keeps nothing.
      owner: all that decides the records, as text.
      like: the records of a call, arrays or their shapes; one array a mode by default.
    """

    def __init__(self, path: str | Path | None, owner: str, like: Records = (0, 0)):
        self._path = None if path is None else Path(path)
        self._owner, self._like, self._due, self._kept = owner, like, 0.0, 0

    def read(self) -> list[Records]:
        """The records that are kept, a pair a call."""
        if self._path is None or not self._path.exists():
            return []
        content = BytesIO(self._path.read_bytes())
        try:
            with np.load(content, allow_pickle=False) as file:
                if str(file["owner"]) != self._owner:
                    return []
                leaves = [file[name] for name in _named(self._like)]
                treedef = jax.tree.structure(self._like)
                records = [treedef.unflatten(call) for call in zip(*leaves)]
        except Exception:  # numpy and zipfile raise many kinds for a damaged file
            return []
        self._kept = len(records)
        return records

    def offer(self, records: Sequence[Records]) -> None:
        """Writes the records unless that would take too much of the time."""
        if time.monotonic() >= self._due:
            self.write(records)

    def write(self, records: Sequence[Records]) -> None:
        """Writes the records, if there are new ones."""
        if self._path is None or len(records) == self._kept:
            return
        began, file = time.monotonic(), BytesIO()
        stacked = jax.tree.map(lambda *x: np.stack(x), *records)
        np.savez(file, owner=self._owner, **_named(stacked))
        write_whole(self._path, file.getvalue())
        ended, self._kept = time.monotonic(), len(records)
        self._due = ended + SHARE * (ended - began)


def _named(records: Records) -> dict[str, Any]:
    """Leaves by mode and place; of a record that is one array, by mode."""
    return {
        mode + jax.tree_util.keystr(path): leaf
        for mode, tree in zip(MODES, records)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
