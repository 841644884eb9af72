"""Diagnostics on one page: HTML that needs no other file, and the numbers beside it."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax._files.webpage import render
from metajax.reporting import finite
from metajax.study.named import Named


class Section(NamedTuple):
    """A diagnostic on the page.

    Attributes:
      name: a short name, of its figure's file and its numbers.
      title: what it is about.
      reading: a sentence or two on how to read it.
      result: its result, or None.
      figure: of the result, as SVG.
      missing: why there is none.
      remark: what stands out in this result.
    """

    name: str
    title: str
    reading: str
    result: Any = None
    figure: bytes = b""
    missing: str = ""
    remark: str = ""


def page(title: str, facts: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """The page.

    Args:
      title: of the page.
      facts: what was studied, by name.
      sections: the diagnostics.

    Returns:
      HTML, its figures within it.

    >>> text = page("A <run>", {"tasks": 3}, [Section("x", "X", "No.", missing="why")])
    >>> "A &lt;run&gt;" in text, "http" in text.replace("http-equiv", "")
    (True, False)
    """
    links = [(section.title, section.name) for section in sections]
    return render(
        "study/report.html",
        title=title,
        facts=facts,
        links=links,
        sections=sections,
        b64encode=b64encode,
    )


def numbers(sections: Sequence[Section]) -> dict[str, Any]:
    """Every number of the sections as plain values, with the names of the axes."""
    return {
        section.name: dict(_fields(section.result))
        for section in sections
        if section.result is not None
    }


def _fields(result: Any) -> Iterator[tuple[str, Any]]:
    for name, value in result._asdict().items():
        if isinstance(value, Named):
            plain = np.asarray(value.values, float).tolist()
            yield name, {"axes": list(value.axes), "values": finite(plain)}
        else:
            plain = value.tolist() if hasattr(value, "tolist") else value
            yield name, finite(list(plain) if isinstance(plain, tuple) else plain)
