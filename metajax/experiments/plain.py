"""Dataclasses from plain values, such as JSON's, each held to its field's type.

Libraries for this are more lenient: cattrs makes 3 of 3.7 for a whole number, and
msgspec passes over names that a dataclass does not have.
"""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from metajax.errors import InputError

T = TypeVar("T")


def object_at(name: str, plain: Any) -> Mapping[str, Any]:
    """Returns `plain` if it is an object of JSON.

    Raises:
      InputError: if it is not.
    """
    if not isinstance(plain, Mapping):
        raise InputError(f"{name} must be an object of names and values, got {plain!r}")
    return plain


def names_of(kind: type) -> set[str]:
    """The names of a dataclass's fields."""
    return {field.name for field in fields(kind)}


def from_plain(kind: type[T], plain: Any, name: str) -> T:
    """A dataclass of values by name; what is missing has its default.

    Raises:
      InputError: see `checked`.
    """
    return kind(**checked(kind, plain, name))


def checked(kind: type, plain: Any, name: str) -> dict[str, Any]:
    """Values by name, each held to the type of a dataclass's field.

    A list stands for a tuple.

    Raises:
      InputError: if a name is unknown, or a value is not of its field's type.
    """
    hints, values = get_type_hints(kind), {}
    known = names_of(kind)
    for key, value in object_at(name, plain).items():
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{name} has an unknown {key!r}{hint}")
        values[key] = tuple(value) if isinstance(value, list) else value
        if not _fits(values[key], hints[key]):
            raise InputError(
                f"{key} of {name} must be {_words(hints[key])}, got {value!r}"
            )
    return values


def _fits(value: Any, hint: Any) -> bool:
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in options)
    if origin is Literal:  # and 1 is neither True nor 1.0
        return any(type(value) is type(x) and value == x for x in options)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        any_length = len(options) == 2 and options[1] is Ellipsis
        each = options[:1] * len(value) if any_length else options
        return len(each) == len(value) and all(map(_fits, value, each))
    if hint is float and type(value) is int:
        return abs(value) < 2**53  # so that a float can hold it
    return type(value) is hint


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(map(_words, get_args(hint)))
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
