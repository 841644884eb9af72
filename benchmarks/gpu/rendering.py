"""The record in Markdown."""

from collections.abc import Mapping
from typing import Any

from benchmarks import suite


def markdown(record: Mapping[str, Any]) -> str:
    """Every section's state and tables.

    Args:
      record: of `schedule.run_sections`.
    """
    lines = [
        f"# {record['title']}",
        "",
        f"`{record['command']}`, begun {record['began']}. Programs are compiled "
        "several at a time, and once in the whole run: a compile time is one of a busy "
        "processor, where its program first appears, and the time to load it later. "
        "Alone they are compiled for the time to the first step.",
        "",
    ]
    for entry in record.get("sections", {}).values():
        lines += [f"## {entry['title']}", "", _state(entry), ""]
        for key, value in entry["results"].items():
            lines += [_result(key, value), ""]
    return "\n".join(lines)


def _state(entry: Mapping[str, Any]) -> str:
    seconds = f", {entry['seconds']:.0f} s" if "seconds" in entry else ""
    why = f": {entry['why']}" if entry.get("why") else ""
    return f"{entry.get('state', 'running').capitalize()}{seconds}{why}."


def _result(key: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{key.capitalize()}: {value}."
    if any("steps_s" in row for row in value.values()):
        return suite.table(key, value).rstrip()
    return table(key, value)


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows by name, whose columns are by name too."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [
        f"**{title}**",
        "",
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = (_cell(row.get(column)) for column in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
