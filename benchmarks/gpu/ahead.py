"""Programs compiled ahead of their timing, several at a time, for JAX's cache."""

import contextlib
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.rivals import RIVALS
from benchmarks.suite import Absent, Worker

Program = tuple[str, str]
"""A rival and a workload."""


def compile_ahead(
    programs: Iterable[Program], device: str, *, together: int, until: float
) -> dict[Program, float]:
    """Compiles meta-steps in processes of their own.

    A compiler keeps a few cores busy and a GPU hardly at all, so while nothing is timed
    many programs are compiled at once.

    Args:
      programs: the most valuable first; those of PyTorch have nothing to compile.
      device: "cpu" or "gpu".
      together: processes at a time.
      until: when those that go on are ended, by `time.monotonic()`.

    Returns:
      Seconds to compile, of those that came to an end.
    """
    workers: list[Worker] = []

    def compile_(program: Program) -> float | None:
        if time.monotonic() > until:
            return None
        with Worker(*program, device) as worker, contextlib.suppress(Absent):
            workers.append(worker)
            if time.monotonic() < until:  # else `stop` may have missed it
                return worker.ask("compile")

    def stop() -> None:
        for worker in list(workers):
            worker.kill()

    programs = [each for each in programs if "torch" not in RIVALS[each[0]].module]
    timer = threading.Timer(max(0.0, until - time.monotonic()), stop)
    timer.start()
    try:
        with ThreadPoolExecutor(together) as pool:
            seconds = list(pool.map(compile_, programs))
    finally:
        timer.cancel()
    return {p: s for p, s in zip(programs, seconds) if s is not None}
