"""An edge: where the library reads what a user gives, and what it then owes."""

import contextlib
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.strategies import SearchStrategy

from metajax.errors import InputError

# Not in the tree, whatever it keeps there.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")

TAKEN, REFUSED = "taken", "refused"
ONLY_REFUSED, BOTH = frozenset({REFUSED}), frozenset({TAKEN, REFUSED})
HANGS = 60  # seconds


class Edge(NamedTuple):
    """What is read, and the property that holds of it.

    Attributes:
      cases: the inputs.
      check: `check(folder, case) -> outcome`, in a folder of its own, empty; it raises
        what the promise does not allow.
      few: cases in a test.
      many: cases at scale.
      seen: the outcomes that a test's few cases are sure to have.
    """

    cases: SearchStrategy[Any]
    check: Callable[[Path, Any], str]
    few: int
    many: int
    seen: frozenset[str] = ONLY_REFUSED


def attempt(call: Callable[[], Any]) -> tuple[str, Any]:
    """(outcome, result) of a call that takes its input or refuses it in words."""
    try:
        return TAKEN, call()
    except (InputError, OSError) as error:
        assert str(error).strip(), "an error without words"
        return REFUSED, None


def drive(edge: Edge, cases: int, *, seed: int | None = None) -> Counter[str]:
    """Runs so many cases and counts the outcomes; what fails is shrunk and raised.

    Args:
      edge: where.
      cases: how many, at most.
      seed: of the cases; by default they are always the same ones.
    """
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=cases,
        derandomize=seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(edge.cases)
    def one(case):
        with tempfile.TemporaryDirectory() as folder, _within(HANGS):
            outcomes[edge.check(Path(folder), case)] += 1

    (one if seed is None else hypothesis.seed(seed)(one))()
    return outcomes


@contextlib.contextmanager
def _within(seconds: int):
    def late(*_):
        raise AssertionError(f"it hangs: not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
