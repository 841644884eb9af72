"""Compiled programs, kept on the disk so that the next command need not compile them.

JAX's own cache keeps what a kill or a full disk left of a file, and takes it for one
ever after. So each process gives JAX a folder of its own, of links to the kept files
that are whole, and keeps what JAX adds to it: written at once, with its checksum.
"""

import contextlib
import hashlib
import os
import platform
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

from metajax.files import TEMPORARY, write_whole

FOLDER = "metajax_programs"
MOST_BYTES = 2**29  # kept on the disk, of one kind of machine
A_DAY = 86_400.0  # seconds, after which no process is still writing a file
SUFFIX = "-cache"  # of JAX's files; ours have a checksum after it
COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax.monitoring
OF_THE_USER = "JAX_COMPILATION_CACHE_DIR"
# What a program for a CPU is made for, in Linux's words for x86 and ARM.
CPU = ("vendor_id", "cpu family", "model", "model name", "flags")
CPU += ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")


@dataclass(frozen=True)
class Programs:
    """Where compiled programs are kept: no part of what a run is."""

    cache: bool = True
    """Keep compiled programs for the next command: beside the prepared data, at most
    512 MiB; in JAX_COMPILATION_CACHE_DIR, by JAX's rules, if that is set."""

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
                kept = _own_folder(prepared / FOLDER)
                temporary = tempfile.TemporaryDirectory(
                    prefix="metajax-", ignore_cleanup_errors=True
                )
                store = _Store(kept, Path(stack.enter_context(temporary)))
                store.link()
            except OSError as error:
                print(
                    f"warning: compiled programs are not kept ({error}); --no-cache "
                    "leaves this out",
                    file=sys.stderr,
                )
            else:
                stack.enter_context(_used(store))
            yield


class _Store:
    """Kept programs, and JAX's folder of links to them.

    Args:
      kept: the folder of kept programs, whose names end in a checksum.
      links: JAX's folder.
    """

    def __init__(self, kept: Path, links: Path):
        self._kept, self.links, self._lock = kept, links, threading.Lock()
        self._seen: set[str] = set()

    def link(self) -> None:
        """Links what is whole, and removes what is not."""
        for path in self._entries():
            name, _, checksum = path.name.rpartition(".")
            with contextlib.suppress(FileNotFoundError):  # another process trims
                if _checksum(path.read_bytes()) != checksum:
                    path.unlink()
                    continue
            if name not in self._seen:
                (self.links / name).symlink_to(path.absolute())
                self._seen.add(name)

    def keep(self) -> None:
        """Keeps what JAX has added."""
        with self._lock:
            new = {p.name: p for p in self.links.glob(f"*{SUFFIX}")}
            for name in new.keys() - self._seen:
                self._seen.add(name)
                content = new[name].read_bytes()
                write_whole(self._kept / f"{name}.{_checksum(content)}", content)

    def trim(self) -> None:
        """Removes the oldest of too many, and what a kill left of a file."""
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
    """JAX reads and adds to the links of a store, and what it adds is kept at once."""

    def keep(event: str, *_: Any, **__: Any) -> None:
        if event == COMPILED:
            with contextlib.suppress(OSError):  # a full disk: it is compiled again
                store.keep()

    settings = {
        "jax_compilation_cache_dir": str(store.links),
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


def _own_folder(folder: Path) -> Path:
    """The folder of this user's programs for this kind of machine.

    Programs are run as they are: nobody else may write to it.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / f"{user}-{_machine()}"
    own.mkdir(mode=0o700, exist_ok=True)
    status = own.stat()
    if hasattr(os, "getuid") and (status.st_uid != user or status.st_mode & 0o022):
        raise PermissionError(f"others may write to {own}")
    return own


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


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"
