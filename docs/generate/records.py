"""What each learner reaches, by the tables of `benchmarks/README.md`."""

import re
from typing import NamedTuple

from public_names import ROOT


class Reached(NamedTuple):
    """A row of the records.

    Attributes:
      section: the title of its section.
      figure: what the learner reaches, with the name of the column.
    """

    section: str
    figure: str

    @property
    def link(self) -> str:
        """The figure, with a link to its section."""
        anchor = re.sub(r"[^\w\- ]", "", self.section.lower()).replace(" ", "-")
        return f"[{self.figure}](benchmarks.md#{anchor})"


def records() -> dict[str, list[Reached]]:
    """The rows of the records that have a learner's name, with what it reaches."""
    rows: dict[str, list[Reached]] = {}
    title, setting, header = "", "", []
    for line in (ROOT / "benchmarks" / "README.md").read_text().splitlines():
        if line.startswith("## "):
            title, setting = line.removeprefix("## "), ""
        if ways := re.search(r"(\d+)[- ]ways?,? (\d)[- ]shot", line):
            setting = f"{ways[1]}-way {ways[2]}-shot"
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif (column := column_of(header)) is not None and "(above" not in cells[0]:
            figure = figure_of(cells, column, header[column], setting)
            rows.setdefault(key(cells[0]), []).append(Reached(title, figure))
    return rows


def figure_of(cells: list[str], column: int, name: str, setting: str) -> str:
    """What a row says in a column, with its unit and its setting."""
    value = re.sub(r" \(.*", "", cells[column])
    unit = setting if name.startswith("transductive") else name.removesuffix(", %")
    return f"{value} % ({', '.join([unit, *cells[0].split(', ')[1:]])})"


def column_of(header: list[str]) -> int | None:
    """The column of a table that says what a learner reaches."""
    marks = [i for i, name in enumerate(header) if re.search("^transductive|, %", name)]
    return marks[0] if marks else None


def key(name: str) -> str:
    """A name as records, options and functions agree on it."""
    name = re.sub(r"\(.*", "", name.split(",")[0]).lower().replace("_plus", "+")
    return re.sub(r"[^a-z0-9+]", "", name)
