"""Masks in PNG files: the number of a class a pixel."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from metajax.data.dense.store import MOST_CLASSES
from metajax.data.folders.names import clean, some
from metajax.data.pictures.decoding import check_pixels, opened
from metajax.data.pictures.depth import raw_mode
from metajax.data.pictures.faults import gather_faults
from metajax.errors import Fault, FilesError, InputError
from metajax.losses import UNLABELLED

NAMES = TEXT, JSON = ("classes.txt", "classes.json")
BACKGROUND = ("background", "_background_", "__background__")
LABELME = "__ignore__"  # labelme lists it first, for 255
PLAIN = ("1", "L", "P", "I", "I;16")
# Pillow spreads grey values of fewer bits over 0 to 255.
STEPS = {"L;2": 85, "L;4": 17}


def unusable(path: Path, reason: str, mend: str) -> FilesError:
    """The error of a file that cannot be used."""
    return gather_faults([Fault(str(path), reason, mend)], path.parent)


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads the values of a mask, upright.

    Args:
      path: of a PNG file, paletted or grey.
      size: (height, width) of its image.

    Returns:
      `uint8[height, width]`.

    Raises:
      FilesError: if it cannot be read, is of another size or mode, or holds values
        above 255.
    """
    with opened(path, ("PNG",)) as file, Image.open(file, formats=("PNG",)) as image:
        check_pixels(image)
        if image.mode not in PLAIN:
            raise unusable(
                path,
                f"is a mask of mode {image.mode}, not paletted or grey",
                "save the number of the class a pixel, as with PIL.Image.fromarray("
                "classes.astype('uint8'))",
            )
        step = STEPS.get(raw_mode(image), 1)
        values = np.asarray(ImageOps.exif_transpose(image)) // np.uint8(step)
    if values.shape != tuple(size):
        have, want = (f"{w}x{h}" for h, w in (values.shape, size))
        reason = f"is a mask of {have} pixels, and its image has {want}"
        raise unusable(path, reason, "save both in one size")
    if values.max() > UNLABELLED:
        reason = f"is a mask with the value {values.max()}"
        mend = f"number classes from 1 to {MOST_CLASSES}; {UNLABELLED} is for no label"
        raise unusable(path, reason, mend)
    return values.astype(np.uint8)


def shrink(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a mask to (height, width), each pixel that of the nearest one."""
    height, width = size
    image = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(image)


def table_of(values: Sequence[int]) -> np.ndarray:
    """The value that a store has for each of a file's, `int[256]`; -1 if unknown.

    Args:
      values: of the classes, in order.
    """
    table = np.full(256, -1)
    table[[0, UNLABELLED]] = 0, UNLABELLED
    table[list(values)] = np.arange(1, len(values) + 1)
    return table


def read_names(folder: Path) -> dict[int, str] | None:
    """The names of values in a folder's `classes.txt` or `classes.json`, by value.

    Returns:
      None if it has neither.

    Raises:
      InputError: if it has both, or one that cannot be used.
    """
    files = [folder / name for name in NAMES if (folder / name).exists()]
    if not files:
        return None
    if len(files) > 1:
        raise InputError(f"{folder} has {' and '.join(NAMES)}; keep one of them")
    (path,) = files
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix == ".json":
            content = json.loads(text, object_pairs_hook=_by_value)
            return _numbered(content, "entry")
        return _numbered(text.splitlines(), "line")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} must name classes, a line each from value 1 on, or as JSON "
            f'{{"1": "cat", "7": "dog"}} ({error}); correct it, or delete it'
        ) from error


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Writes the names of the values 1, 2, ..., so that `read_names` gives them."""
    marks = names[0].casefold() in (*BACKGROUND, LABELME)
    if marks or any(name.splitlines() != [name] for name in names):
        values = {str(value): name for value, name in enumerate(names, 1)}
        (folder / JSON).write_text(json.dumps(values) + "\n")
        return
    lines = "".join(f"{name}\n" for name in names)
    (folder / TEXT).write_bytes(lines.encode(errors="backslashreplace"))


def _by_value(pairs: Sequence[tuple[str, Any]]) -> dict[int, Any]:
    """An object of JSON; a `ValueError` if its keys are not values, each once."""
    named = {_value(key): name for key, name in pairs}
    if len(named) < len(pairs):
        raise ValueError("a value is named twice")
    return named


def _value(key: str) -> int:
    try:
        return int(key)
    except ValueError:
        raise ValueError(f"the key {key!r} is not a pixel value") from None


def _numbered(content: Any, unit: str) -> dict[int, str]:
    """Names by value; a `ValueError`, by the unit of a list, if they are not usable."""
    if isinstance(content, list):
        content = _from_lines([_cleaned(line) for line in content], unit)
    if not isinstance(content, Mapping):
        raise ValueError("it is neither a list nor an object")
    named = {value: _cleaned(content[value]) for value in sorted(content)}
    return _checked({v: x for v, x in named.items() if v not in (0, UNLABELLED)})


def _cleaned(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"the name {name!r} is not a text")
    return clean(name)


def _checked(names: dict[int, str]) -> dict[int, str]:
    if not names or "" in names.values():
        raise ValueError("a class has no name" if names else "it names no class")
    if min(names) < 1 or max(names) > MOST_CLASSES:
        raise ValueError(f"values must be 1 to {MOST_CLASSES}")
    counts = Counter(names.values())
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise ValueError(f"two classes are called {some(twice)}")
    return names


def _from_lines(lines: list[str], unit: str) -> dict[int, str]:
    """The names of a list by value, blank lines at its end left out."""
    lines = lines[: 1 + max((i for i, line in enumerate(lines) if line), default=-1)]
    if "" in lines:
        raise ValueError(f"{unit} {1 + lines.index('')} is blank")
    lines = lines[lines[:1] == [LABELME] :]
    first = 0 if lines and lines[0].casefold() in BACKGROUND else 1
    return dict(enumerate(lines, first))
