"""A page of HTML that needs no other file."""

import html
from collections.abc import Iterable, Mapping
from typing import Any

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       margin: 0 auto; }
h1 { margin: 0.5rem 0; }
nav a { margin-right: 0.9rem; display: inline-block; }
a { color: #005a8c; }
table { border-collapse: collapse; font-size: 0.9rem; }
td { padding: 0.15rem 0.9rem 0.15rem 0; overflow-wrap: anywhere; }
"""


def webpage(title: str, style: str, body: Iterable[str]) -> str:
    """The page.

    Args:
      title: of the page, as plain text.
      style: its own, after that of every page.
      body: its lines, of HTML.

    Returns:
      HTML.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}</title><style>{STYLE}{style}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def table(facts: Mapping[str, Any]) -> str:
    """Facts by name.

    >>> table({"of": "<b>"})
    '<table><tr><td>of</td><td>&lt;b&gt;</td></tr></table>'
    """
    rows = (
        f"<tr><td>{escaped(name)}</td><td>{escaped(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def contents(places: Mapping[str, str]) -> str:
    """Links to places on the page, by their ids."""
    links = (
        f'<a href="#{escaped(i)}">{escaped(name)}</a>' for i, name in places.items()
    )
    return f"<nav>{''.join(links)}</nav>"


def escaped(value: Any) -> str:
    """Anything, to be read and not obeyed."""
    return html.escape(str(value))
