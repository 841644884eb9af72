"""A section in a process of its own, which cannot outlast its time nor end the run."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.schedule import Result, SectionError, TimeUpError


def results(
    command: Sequence[str], seconds: float, log: Path, env: Mapping[str, str]
) -> Generator[Result]:
    """The results that a process prints, each a line of JSON, `[key, value]`.

    Args:
      command: starts the process, in a group of its own.
      seconds: after which the group is killed.
      log: a file that its standard error is added to.
      env: its environment.

    Yields:
      Keys and values as they come.

    Raises:
      TimeUpError: if it was killed.
      SectionError: if it failed, with the last line of its standard error.
    """
    end = time.monotonic() + seconds
    with log.open("ab") as errors:
        start = errors.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=env,
            text=True,
            start_new_session=True,
        )
    try:
        for line in _lines(process, end):
            key, value = json.loads(line)
            yield key, value
        if process.wait(max(1.0, end - time.monotonic())):
            raise SectionError(_last_line(log, start, process.returncode))
    except (queue.Empty, subprocess.TimeoutExpired):
        raise TimeUpError(f"its {seconds:.0f} s were up") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lines(process: subprocess.Popen, end: float) -> Iterator[str]:
    """What a process prints; `queue.Empty` if it is silent at the end of its time."""
    lines: queue.Queue[str | None] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while (line := lines.get(timeout=max(0.0, end - time.monotonic()))) is not None:
        yield line


def _read(stream: IO[str], lines: "queue.Queue[Any]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _last_line(log: Path, start: int, status: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip() and line[0] != " "]
    return (said[-1] if said else f"its process ended with status {status}")[:300]
