"""The page of learners, from their docstrings and `benchmarks/README.md`."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from public_names import ROOT, public_names, source_of
from records import key, records

CLASSES = re.compile(r"^class .*?(?=^class |\Z)", re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "in_context": "beyond-memory",
    "maml_rl": "acting",
    "mwt": "fields",
    "rl2": "acting",
    "tnas": "architecture-search",
}
"""The sections of the records where a learner has no row of its own."""


class Described(NamedTuple):
    """A learner as its docstring describes it.

    Attributes:
      name: of its function.
      home: where that is defined.
      summary: the first line.
      equations: the indented paragraphs before the arguments.
      source: the paper.
    """

    name: str
    home: str
    summary: str
    equations: list[str]
    source: str


def learners_page() -> str:
    """The page: a table, then a section for each learner."""
    described, reached, commands = learners(), records(), command_names()
    head = (ROOT / "docs" / "generate" / "learners.md").read_text()
    rows = ["| learner | `--learner` | result |", "|---|---|---|"]
    sections = []
    for one in described:
        command = commands.get(key(one.name), "")
        seen = [row.link for row in reached.get(key(one.name), [])]
        if not seen and one.name in ELSEWHERE:
            seen = [f"[records](benchmarks.md#{ELSEWHERE[one.name]})"]
        option = f"`{command}`" if command else "in Python"
        cells = f"[`{one.name}`](#{one.name})", option, "; ".join(seen) or "no record"
        rows.append(f"| {' | '.join(cells)} |")
        sections += section(one, command, seen)
    return "\n".join([head, *rows, "", *sections])


def section(one: Described, command: str, seen: list[str]) -> Iterator[str]:
    """The part of the page on one learner."""
    yield f"## {one.name} {{ #{one.name} }}\n\n{one.summary}\n"
    for equation in one.equations:
        yield f"```text\n{equation}\n```\n"
    yield f"- **Function:** [`metajax.{one.name}`][{one.home}]"
    if command:
        yield f"- **Command-line option:** `--learner {command}`"
    if one.source:
        yield f"- **Paper:** {one.source}"
    if seen:
        yield f"- **Result:** {'; '.join(seen)}"
    yield ""


def learners() -> list[Described]:
    """The functions at the root of the package that return a `Learner`."""
    names = public_names()["metajax.learners"]
    homes = [name for name in names if name.path.count(".") == 1]
    return [one for name in homes if (one := described(name.home)) is not None]


def described(home: str) -> Described | None:
    """A function's description, if it returns a learner."""
    module, _, name = home.rpartition(".")
    for node in ast.parse(source_of(module).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            if node.returns is None or ast.unparse(node.returns) != "Learner":
                return None
            return parsed(name, home, ast.get_docstring(node) or "")
    return None


def parsed(name: str, home: str, text: str) -> Described:
    """The parts of a docstring."""
    before = text.split("\nArgs:")[0]
    equations = re.findall(r"(?:^  .*\n?)+", before, re.MULTILINE)
    source = re.search(r"^Source: ((?:.+\n?)+)", text, re.MULTILINE)
    return Described(
        name,
        home,
        text.splitlines()[0],
        ["\n".join(line[2:] for line in e.splitlines()) for e in equations],
        " ".join(source[1].split()) if source else "",
    )


def command_names() -> dict[str, str]:
    """The values of `--learner`."""
    folder = ROOT / "metajax" / "experiments" / "learners"
    found = {
        name[1]
        for path in sorted(folder.glob("*.py"))
        for body in CLASSES.findall(path.read_text())
        if (name := re.search(r'^    name = "(.*)"$', body, re.MULTILINE))
    }
    return {key(name): name for name in found}
