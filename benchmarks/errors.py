"""Errors in one line, for records."""

import traceback
from pathlib import Path


def one_line(error: BaseException) -> str:
    """An error as one line of at most 300 characters; with its place if it is bare."""
    name, lines = type(error).__name__, str(error).strip().splitlines()
    if lines:
        return f"{name}: {lines[0]}"[:300]
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    )
    return name + where
