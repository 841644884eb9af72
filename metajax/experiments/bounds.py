"""Bounds of a configuration's values, written beside each field."""

import math
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_type_hints

from metajax.checks import check_count, check_positive, check_seed, check_share
from metajax.errors import InputError


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InputError(f"{name} must be at least 0, got {value}")


def _check_chunk(name: str, value: Any) -> None:
    if value != "auto":
        check_count(name, value, least=1)


Count = Annotated[int, partial(check_count, least=1)]
CountOrZero = Annotated[int, partial(check_count, least=0)]
# With one class every answer is right, whatever was learnt.
Ways = Annotated[int, partial(check_count, least=2)]
Tasks = Annotated[int, partial(check_count, least=2)]  # an interval needs two
Seed = Annotated[int, check_seed]
Positive = Annotated[float, check_positive]
Share = Annotated[float, check_share]
WholeShare = Annotated[float, partial(check_share, whole=True)]
NotNegative = Annotated[float, _check_not_negative]
Chunk = Annotated[int | Literal["auto"], _check_chunk]


def check_bounds(settings: Any, prefix: str = "--") -> None:
    """Checks every value of a configuration against the bounds of its field.

    Args:
      settings: a dataclass, of which some fields may be dataclasses.
      prefix: what precedes a field's name in an error.

    Raises:
      InputError: if a value is out of bounds; it names the command's flag.
    """
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value = getattr(settings, field.name)
        flag = f"{prefix}{field.name.replace('_', '-')}"
        if is_dataclass(value):
            check_bounds(value, f"{flag}.")
        elif value is not None:
            for one in value if isinstance(value, tuple) else (value,):
                for check in _checks(hints[field.name]):
                    check(flag, one)


def _checks(hint: Any) -> list[Any]:
    """The functions `check(name, value)` that annotate a type, at any depth."""
    own = [x for x in getattr(hint, "__metadata__", ()) if callable(x)]
    return own + [check for part in get_args(hint) for check in _checks(part)]
