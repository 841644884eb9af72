"""Compiled programs, kept on the disk so that the next command need not compile them.

JAX's own cache keeps what a kill or a full disk left of a file, and takes it for one
ever after. So each process gives JAX a folder of its own, with the kept files that are
whole, and keeps the whole files that JAX adds to it: written at once, with a checksum.
"""

import contextlib
import hashlib
import importlib
import os
import platform
import stat
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from metajax._files.writing import TEMPORARY, write_whole

FOLDER, FEATURES = "metajax_programs", "metajax_features"
MOST_BYTES = 2**29  # kept on the disk, of one kind of machine
A_DAY = 86_400.0  # seconds, after which no process is still writing a file
SUFFIX = "-cache"  # of JAX's files; ours have a checksum after it
ZSTD = b"\x28\xb5\x2f\xfd"  # how a file of Zstandard begins; others are of zlib
CHECKED = 1  # begins each checksum: files kept before they were checked have another
OTHERS = stat.S_IWGRP | stat.S_IWOTH
COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax.monitoring
OF_THE_USER = "JAX_COMPILATION_CACHE_DIR"
# What a program for a CPU is made for, in Linux's words for x86 and ARM.
CPU = ("vendor_id", "cpu family", "model", "model name", "flags")
CPU += ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")


@dataclass(frozen=True)
class Programs:
    """Where compiled programs are kept: no part of what a run is."""

    cache: bool = True
    """Keep compiled programs for later commands: beside the prepared data, at most 512
    MiB, or in JAX_COMPILATION_CACHE_DIR, by JAX's rules, if that is set. A backbone's
    features of pictures are kept there too, at most 1 GiB."""

    def features(self, prepared: Path) -> Path | None:
        """The file of features that are kept by the content of pictures.

        Args:
          prepared: the folder of prepared data.

        Returns:
          A path in a folder of this user's; None if nothing is kept.
        """
        if not self.cache:
            return None
        try:
            return _own_folder(prepared / FEATURES, str(_user())) / "features.sqlite"
        except OSError as error:
            _warn("features of pictures are not kept", error)
            return None

    @contextlib.contextmanager
    def kept(self, prepared: Path) -> Iterator[None]:
        """Keeps what is compiled in the block, and takes what was kept.

        What cannot be read or written is compiled, and not kept.

        Args:
          prepared: the folder of prepared data.
        """
        config: Any = jax.config
        chosen = OF_THE_USER in os.environ or config.jax_compilation_cache_dir
        if chosen or not self.cache:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                kept = _own_folder(prepared / FOLDER, f"{_user()}-{_machine()}")
                temporary = tempfile.TemporaryDirectory(
                    prefix="metajax-", ignore_cleanup_errors=True
                )
                store = _Store(kept, Path(stack.enter_context(temporary)))
                store.fill()
            except OSError as error:
                _warn("compiled programs are not kept", error)
            else:
                stack.enter_context(_used(store))
            yield


class _Store:
    """Kept programs, and JAX's folder of those that are whole.

    Args:
      kept: the folder of kept programs, whose names end in a checksum.
      folder: JAX's folder.
    """

    def __init__(self, kept: Path, folder: Path):
        self._kept, self.folder, self._lock = kept, folder, threading.Lock()
        self._seen: set[str] = set()
        self._unused: dict[Path, Path] = {}  # JAX's files, to the kept ones

    def fill(self) -> None:
        """Gives JAX what is whole, and removes what is not."""
        for path in self._entries():
            name, _, checksum = path.name.rpartition(".")
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # another process trims
                continue
            if _checksum(content) != checksum:
                path.unlink(missing_ok=True)
            elif name not in self._seen:
                self._seen.add(name)
                with contextlib.suppress(OSError):  # a full disk: it is compiled again
                    _share(path, content, self.folder / name)
                    self._unused[self.folder / name] = path

    def keep(self) -> None:
        """Keeps what JAX has added, and notes what it has read."""
        with self._lock:
            self._note_use()
            new = {p.name: p for p in self.folder.glob(f"*{SUFFIX}")}
            for name in new.keys() - self._seen:
                content = new[name].read_bytes()
                # Another thread may still be writing it, and is then seen again.
                if _is_whole(content):
                    self._seen.add(name)
                    write_whole(self._kept / f"{name}.{_checksum(content)}", content)

    def _note_use(self) -> None:
        """Makes a kept file new when JAX has read it, for `trim`.

        A disk that does not note when a file is read leaves it as old as it is.
        """
        for own, path in list(self._unused.items()):
            with contextlib.suppress(OSError):  # another process trims
                if own.stat().st_atime_ns > 0:
                    del self._unused[own]
                    os.utime(path)

    def trim(self) -> None:
        """Removes the least recently used of too many, and what a kill left."""
        sizes = {path: path.stat() for path in self._entries()}
        ages = sorted(sizes, key=lambda path: sizes[path].st_mtime_ns, reverse=True)
        total = 0
        for path in ages:
            total += sizes[path].st_size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)
        for path in self._kept.glob(TEMPORARY):
            if time.time() - path.stat().st_mtime > A_DAY:
                path.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        return sorted(self._kept.glob(f"*{SUFFIX}.*"))


@contextlib.contextmanager
def _used(store: _Store) -> Iterator[None]:
    """JAX reads and adds to the folder of a store, which keeps at once what it adds."""

    def keep(event: str, *_: Any, **__: Any) -> None:
        if event == COMPILED:
            with contextlib.suppress(OSError):  # a full disk: it is compiled again
                store.keep()

    settings = {
        "jax_compilation_cache_dir": str(store.folder),
        "jax_compilation_cache_max_size": -1,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        # The path of its folder, another each time, would be part of every key.
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    before = {name: getattr(jax.config, name) for name in settings}
    _set(settings)
    jax.monitoring.register_event_duration_secs_listener(keep)
    try:
        with warnings.catch_warnings():
            about = r"Error (reading|writing) persistent compilation cache"
            warnings.filterwarnings("ignore", about)
            yield
    finally:
        jax.monitoring.unregister_event_duration_listener(keep)
        _set(before)
        with contextlib.suppress(OSError):
            store.trim()


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()


def _warn(lack: str, error: OSError) -> None:
    print(f"warning: {lack} ({error}); --no-cache leaves this out", file=sys.stderr)


def _own_folder(folder: Path, name: str) -> Path:
    """A folder of this user's in one that users share.

    What it holds is taken as it is: nobody else may write to it.
    """
    # Only the owner of a folder in it may rename that.
    folder.mkdir(mode=0o777 | stat.S_ISVTX, parents=True, exist_ok=True)
    own = folder / name
    own.mkdir(mode=0o700, exist_ok=True)
    parent, status = folder.stat(), own.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"expected a folder, and {own} is a link")
    if not hasattr(os, "getuid"):
        return own
    if parent.st_mode & OTHERS and not parent.st_mode & stat.S_ISVTX:
        raise PermissionError(f"others may replace {own}; chmod +t {folder}")
    if status.st_uid != _user() or status.st_mode & OTHERS:
        raise PermissionError(f"others may write to {own}")
    return own


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _machine() -> str:
    """What decides a program for a CPU, beside what JAX's keys are made of.

    JAX does not tell one CPU from another, and a shared disk may have many.
    """
    facts = [platform.machine(), platform.processor(), str(os.cpu_count())]
    facts.append(os.environ.get("NPROC", ""))
    with contextlib.suppress(OSError):
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        facts += [x for x in first.splitlines() if x.partition("\t")[0].strip() in CPU]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _share(path: Path, content: bytes, own: Path) -> None:
    """Puts a kept file, which has been read, into JAX's folder, as not yet used.

    JAX would write through a link by name, once another process has removed the file.
    """
    try:
        own.hardlink_to(path)
    except OSError:  # another disk, or removed since
        try:
            own.write_bytes(content)
        except OSError:
            own.unlink(missing_ok=True)
            raise
    # Disks that note few uses note the first after a file was written.
    os.utime(own, ns=(0, own.stat().st_mtime_ns))


def _is_whole(content: bytes) -> bool:
    """Whether JAX can decompress a file; a full disk leaves a part of one."""
    if not content.startswith(ZSTD):
        try:
            return bool(zlib.decompress(content))
        except zlib.error:
            return False
    for name in ("compression.zstd", "zstandard"):  # as JAX chooses
        try:
            zstd: Any = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return bool(zstd.decompress(content))
        except zstd.ZstdError:
            return False
    return False


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content, CHECKED):08x}"
