"""Diagnostics on one page: HTML that needs no other file, and the numbers beside it."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax._files.webpage import contents, escaped, table, webpage
from metajax.reporting import finite
from metajax.study.named import Named

STYLE = """
body { max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0.3rem; }
figure { margin: 0.6rem 0; overflow-x: auto; }
figure img { max-width: 100%; height: auto; }
p.missing { color: #555; font-style: italic; }
p.remark { border-left: 4px solid #d55e00; padding: 0.2rem 0.8rem; }
@media (max-width: 40rem) { body { padding: 0.6rem; font-size: 15px; }
  figure img { min-width: 34rem; } }
"""


class Section(NamedTuple):
    """A diagnostic on the page.

    Attributes:
      name: a short name, of its figure's file and its numbers.
      title: what it is about.
      reading: a sentence or two on how to read it.
      found: its result, or None.
      figure: of the result, as SVG.
      missing: why there is none.
      remark: what stands out in this result.
    """

    name: str
    title: str
    reading: str
    found: Any = None
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
    links = contents((section.title, section.name) for section in sections)
    head = f"<h1>{escaped(title)}</h1>{table(facts)}{links}"
    return webpage(title, STYLE, [head, *map(_shown, sections)])


def numbers(sections: Sequence[Section]) -> dict[str, Any]:
    """Every number of the sections as plain values, with the names of the axes."""
    return {
        section.name: dict(_fields(section.found))
        for section in sections
        if section.found is not None
    }


def _shown(section: Section) -> str:
    name, title = escaped(section.name), escaped(section.title)
    lines = [f'<section id="{name}"><h2>{title}</h2>']
    lines.append(f"<p>{escaped(section.reading)}</p>")
    if section.found is None:
        reason = escaped(section.missing)
        lines.append(f'<p class="missing">Not here: {reason}.</p>')
    else:
        if section.remark:
            lines.append(f'<p class="remark">{escaped(section.remark)}</p>')
        image = b64encode(section.figure).decode()
        source = f"data:image/svg+xml;base64,{image}"
        lines.append(f'<figure><img src="{source}" alt="{title}"></figure>')
    return "".join([*lines, "</section>"])


def _fields(found: Any) -> Iterator[tuple[str, Any]]:
    for name, value in found._asdict().items():
        if isinstance(value, Named):
            plain = np.asarray(value.values, float).tolist()
            yield name, {"axes": list(value.axes), "values": finite(plain)}
        else:
            plain = value.tolist() if hasattr(value, "tolist") else value
            yield name, finite(list(plain) if isinstance(plain, tuple) else plain)
