"""Checks of what the functions of this room are given."""

from typing import Any

from metajax.errors import InputError, argument


def check_iou(name: str, value: Any) -> float:
    """Returns `value` if it is a threshold of intersection over union.

    Raises:
      InputError: if it is no number in (0, 1].

    >>> check_iou("iou", 0.5)
    0.5
    """
    try:
        good = 0 < value <= 1
    except TypeError:
        good = False
    if not good:
        raise InputError(
            f"{argument(name)} must be above 0 and at most 1, got {value!r}"
        )
    return float(value)
