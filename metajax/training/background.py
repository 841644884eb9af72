"""Work that goes on while the caller does."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_background(work: Callable[[T], None]) -> Iterator[Callable[[T], None]]:
    """`work` in a thread of its own, one call at a time, in order.

    A call waits for the one before, and the end of the block for the last one, however
    the block ends. What a call raised is raised by that wait, so it is never lost.

    Args:
      work: a function of what is not changed meanwhile.

    Returns:
      A context manager of a function of the same argument, which does not wait for its
      own call.

    >>> done = []
    >>> with in_background(done.append) as append:
    ...     append(1)
    ...     append(2)
    >>> done
    [1, 2]
    """
    before: Future[None] | None = None

    def begin(argument: T) -> None:
        nonlocal before
        if before is not None:
            before.result()
        before = pool.submit(work, argument)

    with ThreadPoolExecutor(1) as pool:
        try:
            yield begin
        finally:
            if before is not None:
                before.result()
