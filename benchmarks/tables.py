"""Tables of benchmarks/README.md, made from the records.

    python -m benchmarks.tables             # after a record has changed
    python -m benchmarks.tables --check     # exits with 1 if a table differs

A table stands between two comments. The first names the record and, unless all its
tables are shown, one of them by its title:

    <!-- from records/emoji.json: AUROC %, another foundry, test names -->

    <!-- end -->

What is written there is what the record's own benchmark prints.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import pretrained, suite, targets
from benchmarks.command import read_record, run_command
from benchmarks.emoji import trial
from benchmarks.rl import rows, timed
from benchmarks.settings import File
from metajax._files.writing import write_whole
from metajax.checks import check_known
from metajax.errors import InputError

README = Path(__file__).parent / "README.md"
BEGIN = r"<!-- from records/(?P<record>[\w-]+\.json)(?:: (?P<title>[^\n]+))? -->"
END = "<!-- end -->"
BLOCK = re.compile(rf"^(?P<begin>{BEGIN})\n(?P<table>.*?)^{END}$", re.M | re.S)
FORM = "<!-- from records/NAME.json --> or <!-- from records/NAME.json: TITLE -->"


@dataclass(frozen=True)
class Settings:
    """Which page's tables are made."""

    page: File = README
    """Page with the tables; the records are in the folder records beside it."""
    check: bool = False
    """Write nothing, and exit with 1 if a table differs from its record."""


def main(settings: Settings) -> None:
    """Writes the tables anew, or says which differ.

    Raises:
      InputError: if one differs and they are only checked.
    """
    text, differing = generate(settings.page)
    if settings.check and differing:
        raise InputError(
            f"{settings.page.name} differs from {'; '.join(differing)}; run python -m "
            "benchmarks.tables"
        )
    if differing:
        write_whole(settings.page, text)
    for name in differing:
        print(f"written from {name}")


def generate(page: Path) -> tuple[str, list[str]]:
    """A page with its tables made anew, and the names of those that differed.

    Raises:
      InputError: if a comment is no mark of a table, or names none that there is.
    """
    text = page.read_text()
    _check_marks(page.name, text)
    differing = []

    def make(block: re.Match[str]) -> str:
        name, title = f"records/{block['record']}", block["title"]
        made = f"\n{_table(page.parent / name, title)}\n\n"
        if made != block["table"]:
            differing.append(f"{name}: {title}" if title else name)
        return f"{block['begin']}\n{made}{END}"

    return BLOCK.sub(make, text), differing


def _check_marks(name: str, text: str) -> None:
    """Refuses a page whose comments do not begin and end tables in turn."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("<!--"):
            expected, form = (END, END) if inside else (BEGIN, FORM)
            if not re.fullmatch(expected, line):
                raise InputError(f"{name}, line {number}: expected {form}, got {line}")
            inside = not inside
    if inside:
        raise InputError(f"{name}: expected {END} after the last table, and it ends")
    if not BLOCK.search(text):
        raise InputError(f"{name} has no table to make; one begins with {FORM}")


def _table(record: Path, title: str | None) -> str:
    render = RENDERERS[check_known("record with tables", record.name, RENDERERS)]
    results = read_record(record)["results"]
    if title is not None:
        check_known(f"table of {record.name}", title, results)
        results = {title: results[title]}
    return render(results).strip()


def _each(table: Callable[[str, Any], str], results: Mapping[str, Any]) -> str:
    return "\n\n".join(table(title, rows).strip() for title, rows in results.items())


def _of_strategies(title: str, kept: Sequence[Mapping[str, Any]]) -> str:
    return rows.markdown(title, [rows.Row(**row) for row in kept])


def _of_times(title: str, kept: Sequence[Mapping[str, Any]]) -> str:
    return timed.markdown(title, [timed.Timed(**row) for row in kept])


# The Markdown of a record's results, by the name of the record.
RENDERERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "cpu-2-cores.json": partial(_each, suite.table),
    "cpu-2-cores-sweep.json": partial(_each, suite.table),
    "emoji.json": partial(_each, trial.markdown),
    "pretrained.json": pretrained.table,
    "rl.json": partial(_each, _of_strategies),
    "rl-navigation.json": partial(_each, _of_times),
    "targets-h200.json": targets.table,
    "targets-v5e.json": targets.table,
}


if __name__ == "__main__":
    sys.exit(run_command(main, Settings, "benchmarks.tables", __doc__))
