"""Features of pictures, kept on the disk by the content of the pictures' files."""

import sqlite3
import threading
import time
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np

MOST_BYTES = 2**30  # of all features together
WAIT = 60.0  # seconds, for another process to finish writing
A_DAY = 86_400
TABLE = """CREATE TABLE IF NOT EXISTS features (
    context TEXT, content TEXT, value BLOB, checksum INTEGER, day INTEGER,
    PRIMARY KEY (context, content)) WITHOUT ROWID"""
FIND = "SELECT value, checksum FROM features WHERE context = ? AND content = ?"
ADD = "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)"
USE = "UPDATE features SET day = ? WHERE context = ? AND day < ?"
OLDEST = """DELETE FROM features WHERE (context, content) IN (
    SELECT context, content FROM features ORDER BY day
    LIMIT (SELECT 1 + count(*) / 10 FROM features))"""
T = TypeVar("T")


class FeatureCache:
    """Features by the content of a file, in a database that processes may share.

    A feature is found again only if its bytes are those that were added. What cannot be
    read or written is computed again, with one warning.

    Args:
      path: of the database; made at the first use, with its folder.
      context: what decides a feature beside the file: the network, the preprocessing.
      most: bytes of all features together. Where a database has more when it is opened,
        those that were not used for the most days are removed.

    >>> import tempfile
    >>> cache = FeatureCache(Path(tempfile.mkdtemp()) / "features.sqlite", "resnet")
    >>> cache.add([("ab", np.ones(2, np.float32))])
    >>> cache.find("ab"), cache.find("cd")
    (array([1., 1.], dtype=float32), None)
    """

    def __init__(self, path: Path, context: str, *, most: int = MOST_BYTES):
        self._path, self._context, self._most = path, context, most
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._is_broken = False

    def find(self, content: str) -> np.ndarray | None:
        """The feature of a file's content, `float32[d]`, if it was added.

        Args:
          content: the hash of the file.
        """
        key = self._context, content
        row = self._run(lambda database: database.execute(FIND, key).fetchone())
        if row is None or zlib.crc32(row[0]) != row[1]:
            return None
        return np.frombuffer(row[0], np.float32)

    def add(self, features: Iterable[tuple[str, np.ndarray]]) -> None:
        """Keeps features by the hashes of their files, all of them or none."""
        values = [(name, np.float32(x).tobytes()) for name, x in features]
        rows = [
            (self._context, name, value, zlib.crc32(value), _today())
            for name, value in values
        ]
        self._run(lambda database: database.executemany(ADD, rows))

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What a transaction returns; None if the database cannot be used."""
        with self._lock:
            if self._is_broken:
                return None
            try:
                if self._database is None:
                    self._database = self._open()
                with self._database:
                    return work(self._database)
            except (sqlite3.Error, OSError) as error:
                self._is_broken = True
                warnings.warn(
                    f"features are not kept in {self._path} ({error}); delete it, or "
                    "leave it out by --no-cache",
                    stacklevel=4,
                )
        return None

    def _open(self) -> sqlite3.Connection:
        """The database, without what is too much."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=WAIT, check_same_thread=False)
        weakref.finalize(self, database.close)
        self._path.chmod(0o600)
        with database:
            database.execute(TABLE)
            database.execute(USE, (_today(), self._context, _today()))
        while _size(database) > self._most:
            with database:
                if not database.execute(OLDEST).rowcount:
                    break
        return database


def _size(database: sqlite3.Connection) -> int:
    """The bytes in use."""
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _today() -> int:
    return int(time.time() // A_DAY)
