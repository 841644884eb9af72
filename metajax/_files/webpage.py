"""Pages of HTML that need no other file, from templates that lie beside their modules.

Jinja2 escapes every value, so the name of a file or a class is read and never obeyed.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, *, facts: Mapping[str, Any], **values: Any) -> str:
    """The text of a page.

    Args:
      template: its path below `metajax/`, which extends `_files/page.html`.
      facts: what the page is about, by name; several lines if a tuple.
      **values: what else the template shows: `title`, `links` and its own.

    >>> page = render("_files/page.html", title="A <run>", facts={}, links=[])
    >>> "<h1>A &lt;run&gt;</h1>" in page
    True
    """
    lines = {k: v if isinstance(v, tuple) else (v,) for k, v in facts.items()}
    return _environment().get_template(template).render(facts=lines, **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
