"""A page of HTML that needs no other file."""

import html
from collections.abc import Iterable, Mapping
from typing import Any

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       margin: 0 auto; }
h1 { margin: 0.5rem 0; }
nav > * { margin-right: 0.9rem; padding: 0.3rem 0; display: inline-block;
          overflow-wrap: anywhere; }
a { color: #005a8c; }
table { border-collapse: collapse; font-size: 0.9rem; }
td, th { padding: 0.15rem 0.9rem 0.15rem 0; text-align: left; vertical-align: top;
         overflow-wrap: anywhere; }
th { font-weight: normal; color: #555; white-space: nowrap; }
td div + div { margin-top: 0.4rem; }
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
    """Facts by name; of several lines if a tuple.

    >>> table({"of": "<b>"})
    '<table><tr><th scope="row">of</th><td><div>&lt;b&gt;</div></td></tr></table>'
    """
    lines = {k: v if isinstance(v, tuple) else (v,) for k, v in facts.items()}
    rows = (
        f'<tr><th scope="row">{escaped(name)}</th>'
        f"<td>{''.join(f'<div>{escaped(value)}</div>' for value in values)}</td></tr>"
        for name, values in lines.items()
    )
    return f"<table>{''.join(rows)}</table>"


def contents(places: Iterable[tuple[str, str | None]]) -> str:
    """What is on the page, each a name and the id of its place; None for no place.

    >>> contents([("Data", "data"), ("Rest", None)])
    '<nav><a href="#data">Data</a><span>Rest</span></nav>'
    """
    links = (
        f"<span>{escaped(name)}</span>"
        if place is None
        else f'<a href="#{escaped(place)}">{escaped(name)}</a>'
        for name, place in places
    )
    return f"<nav>{''.join(links)}</nav>"


def escaped(value: Any) -> str:
    """Anything, to be read and not obeyed."""
    return html.escape(str(value))
