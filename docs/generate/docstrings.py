"""Turns this package's docstrings into Markdown, for the API reference.

An indented block is an equation, and `>>>` begins an example: both become blocks of
code. A name of the package between backticks becomes a link, if the reference has it.
"""

import re
from collections.abc import Iterator

import griffe
from public_names import public_names

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
NAME = re.compile(r"`(metajax\.[\w.]+)`")


class Docstrings(griffe.Extension):
    """Rewrites each docstring of the package once, as it is read."""

    def __init__(self) -> None:
        names = [name for page in public_names().values() for name in page]
        self.links = {path: name.home for name in names for path in name}

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrites the docstring of an object, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = self.markdown(obj.docstring.value)

    def markdown(self, text: str) -> str:
        """A docstring with code in fences, and with links."""
        text = NAME.sub(self.link, "\n".join(fenced(text.splitlines())))
        return re.sub(r"^Source: ", "**Source:** ", text, flags=re.MULTILINE)

    def link(self, name: re.Match[str]) -> str:
        """A name of the package as a link, if the reference has it."""
        home = self.links.get(name[1])
        return name[0] if home is None else f"[{name[0]}][{home}]"


def fenced(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring, with fences around equations and examples."""
    for paragraph in paragraphs(lines):
        first = paragraph[0]
        if first.startswith(">>>"):
            yield from ["```pycon", *paragraph, "```"]
        elif first.startswith("  "):
            yield from ["```text", *(line[2:] for line in paragraph), "```"]
        else:
            yield from paragraph
        yield ""


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that belong together: a section, an equation, an example, text."""
    run: list[str] = []
    for line in lines:
        if run and ends(run, line):
            yield stripped(run)
            run = []
        if line or run:
            run.append(line)
    if run:
        yield stripped(run)


def ends(run: list[str], line: str) -> bool:
    """Whether a line begins another paragraph than that before it."""
    if SECTION.match(run[0]) or run[0].startswith("  "):
        return bool(line) and not line.startswith("  ")
    return not line


def stripped(run: list[str]) -> list[str]:
    """The lines without empty ones at the end."""
    while not run[-1]:
        run = run[:-1]
    return run
