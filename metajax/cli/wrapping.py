"""Help without the line breaks of its docstrings, for a terminal of any width."""

import inspect
from dataclasses import replace
from functools import partial
from typing import Any

from tyro.constructors import (
    ConstructorRegistry,
    StructConstructorSpec,
    StructTypeInfo,
)


def unwrap(text: str) -> str:
    r"""A docstring with each paragraph on one line.

    >>> unwrap("The first.\n\n    The second, of\n    two lines.")
    'The first.\n\nThe second, of two lines.'
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


class UnwrappedHelp:
    """tyro's own rules, but for the help, whose lines they leave broken as in code."""

    def __init__(self):
        self._asking = False

    def __call__(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        """The fields of a dataclass, with their help unwrapped."""
        if self._asking:
            return None
        self._asking = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._asking = False
        if not isinstance(spec, StructConstructorSpec):
            return spec  # pyright: ignore (as tyro's own rules do)
        fields = (
            replace(field, helptext=partial(_unwrapped, field.helptext))
            for field in spec.fields
        )
        return replace(spec, fields=tuple(fields))


def _unwrapped(text: Any) -> str | None:
    text = text() if callable(text) else text
    return None if text is None else unwrap(text)
