"""A schedule of sections that share a budget of time and are recorded as they go."""

import contextlib
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from benchmarks.errors import one_line

DONE, FAILED, SKIPPED, STOPPED = "done", "failed", "skipped", "stopped"
Result = tuple[str, Any]
"""A key, and the value that replaces the one of that key so far."""
Record = dict[str, Any]


class Section(NamedTuple):
    """A part of the schedule.

    Attributes:
      name: as it is chosen by.
      title: in the Markdown.
      share: of the time, relative to that of the other sections.
      least: seconds below which it is not begun.
    """

    name: str
    title: str
    share: float
    least: float


class SectionError(Exception):
    """Why a section ended early, in one line."""


class TimeUpError(SectionError):
    """A section that was ended at the end of its time."""


def run_sections(
    sections: Sequence[Section],
    seconds: float,
    start: Callable[[Section, float], Generator[Result]],
    record: Record,
    write: Callable[[Record], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Record:
    """Runs sections in order, none of which can end the run.

    Each has a share of what time remains, so one that ends early leaves its rest to the
    later ones; it has its least where that is more.

    Args:
      sections: the most valuable first.
      seconds: for all of them.
      start: `start(section, seconds)` begins one, which yields results as they come.
      record: gets a key `sections`, with the state and the results of each by name.
      write: keeps the record; called after every result and every section.
      clock: tells seconds.

    Returns:
      The record.

    Raises:
      KeyboardInterrupt: if it was interrupted, with the record written.
    """
    end = clock() + seconds
    entries = record["sections"] = {}
    for place, section in enumerate(sections):
        left = end - clock()
        entry = entries[section.name] = {"title": section.title, "results": {}}
        if left < section.least:
            entry["state"] = SKIPPED
            entry["why"] = f"{left:.0f} s left, it needs {section.least:.0f}"
            write(record)
            continue
        total = sum(each.share for each in sections[place:])
        budget = min(left, max(section.least, left * section.share / total))
        _run_one(entry, start(section, budget), lambda: write(record), clock)
    return record


def _run_one(
    entry: dict[str, Any],
    results: Generator[Result],
    write: Callable[[], None],
    clock: Callable[[], float],
) -> None:
    began = clock()
    entry["state"], entry["why"] = STOPPED, "the run was interrupted"
    try:
        with contextlib.closing(results):
            for key, value in results:
                entry["results"][key] = value
                write()
        entry["state"], entry["why"] = DONE, ""
    except TimeUpError as error:
        entry["state"], entry["why"] = STOPPED, str(error)
    except SectionError as error:
        entry["state"], entry["why"] = FAILED, str(error)
    except Exception as error:  # whatever it is, the others are to run
        entry["state"], entry["why"] = FAILED, one_line(error)
    finally:
        entry["seconds"] = math.ceil(10 * (clock() - began)) / 10
        write()
