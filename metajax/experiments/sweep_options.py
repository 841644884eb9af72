"""The options of a sweep and their values, as `--over` has them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from metajax.errors import InputError

FORM = "NAME=VALUE,VALUE, each name once, as in inner.rate=0.1,0.4"


class Range(NamedTuple):
    """All numbers between two; whole ones, if both are.

    Attributes:
      low: the least.
      high: the most.
      log: whether they are drawn evenly by their logarithm.
    """

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        """As `--over` has it."""
        return f"{self.low}..{self.high}{':log' * self.log}"


Options = Mapping[str, Sequence[Any] | Range]


def read_options(texts: Sequence[str]) -> dict[str, list[Any] | Range]:
    """The values of each option of `NAME=VALUE,VALUE` or `NAME=LOW..HIGH[:log]`.

    Raises:
      InputError: if there is none, or one has no values, or is given twice.

    >>> read_options(["inner.rate=1e-3..1:log", "inner.optimizer=sgd,adam"])
    {'inner.rate': Range(low=0.001, high=1, log=True),
    'inner.optimizer': ['sgd', 'adam']}
    """
    options: dict[str, list[Any] | Range] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not name or not values or name in options:
            raise InputError(f"--over must be {FORM}; got {text!r}")
        options[name] = _read_range(values) or _read_values(values)
    if not options:
        raise InputError(f"expected --over {FORM}")
    return options


def plain(options: Options) -> dict[str, Any]:
    """Options as values of JSON.

    >>> plain({"inner.rate": Range(0.1, 1.0), "seed": [1, 2]})
    {'inner.rate': '0.1..1.0', 'seed': [1, 2]}
    """
    return {n: str(x) if isinstance(x, Range) else [*x] for n, x in options.items()}


def _read_range(text: str) -> Range | None:
    """A range; None if it is not two numbers with two points between them."""
    ends, colon, scale = text.partition(":")
    low, high = (_read_value(end) for end in ends.partition("..")[::2])
    if not (_is_number(low) and _is_number(high)):
        return None
    log = scale == "log"
    bounds = low < high and math.isfinite(high - low) and (low > 0 or not log)
    if not bounds or (colon and not log):
        raise InputError(
            "--over must be NAME=LOW..HIGH with LOW < HIGH, or LOW..HIGH:log with "
            f"0 < LOW < HIGH; got {text!r}"
        )
    return Range(low, high, log)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_values(text: str) -> list[Any]:
    try:
        return json.loads(f"[{text}]")
    except ValueError:  # names without quotes
        return [_read_value(part) for part in text.split(",")]


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
