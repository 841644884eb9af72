"""What may be wrong with the entries of a COCO file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metajax.data.folders.names import clean
from metajax.errors import Fault

Entry = dict[str, Any]
LARGEST = 1e6  # number of pixels; infinities and NaN are not below it either
MEND = "correct it, or delete it"


def is_id(x: Any) -> bool:
    """Whether it can be the number of an entry."""
    return isinstance(x, int | str) and not isinstance(x, bool)


def place_of(kind: str, entry: Entry, i: int, path: Path) -> str:
    """Which entry it is, for a message."""
    return f"{kind} {entry['id'] if is_id(entry.get('id')) else f'[{i}]'} of {path}"


def _repeated(
    kind: str, entries: list[Entry], field: str, path: Path
) -> Iterator[Fault]:
    """Those whose field is one of an earlier entry."""
    seen = set()
    for i, entry in enumerate(entries):
        value = entry.get(field)
        value = clean(value) if isinstance(value, str) else value
        if not isinstance(value, int | str):
            continue  # another check says so
        if value in seen:
            reason = f"has the {field} {value} of an earlier one"
            yield Fault(place_of(kind, entry, i, path), reason, MEND)
        seen.add(value)


def _named(kind: str, entries: list[Entry], field: str, path: Path) -> Iterator[Fault]:
    """What is wrong with numbers, and with a name of each."""
    for i, entry in enumerate(entries):
        name = entry.get(field)
        if not is_id(entry.get("id")):
            yield Fault(place_of(kind, entry, i, path), "has no id", MEND)
        if not isinstance(name, str) or not clean(name):
            yield Fault(place_of(kind, entry, i, path), f"has no {field}", MEND)
    yield from _repeated(kind, entries, "id", path)
    yield from _repeated(kind, entries, field, path)


def faults_of_images(entries: list[Entry], path: Path) -> Iterator[Fault]:
    """What is wrong with the list `images`."""
    return _named("image", entries, "file_name", path)


def faults_of_categories(entries: list[Entry], path: Path) -> Iterator[Fault]:
    """What is wrong with the list `categories`."""
    return _named("category", entries, "name", path)


def faults_of_annotations(
    entries: list[Entry], path: Path, images: dict[Any, int], labels: dict[Any, int]
) -> Iterator[Fault]:
    """What is wrong with the list `annotations`.

    Args:
      entries: the list.
      path: of the file.
      images: of the known numbers.
      labels: of the known numbers of categories.
    """
    for i, entry in enumerate(entries):
        for field, known in (("image_id", images), ("category_id", labels)):
            value = entry.get(field)
            if not is_id(value) or value not in known:
                reason = f"has the {field} {value!r}, which is not listed"
                yield Fault(place_of("annotation", entry, i, path), reason, MEND)
        for reason in (_box_fault(entry), _outline_fault(entry), _crowd_fault(entry)):
            if reason:
                yield Fault(place_of("annotation", entry, i, path), reason, MEND)
    yield from _repeated("annotation", entries, "id", path)


def _box_fault(entry: Entry) -> str | None:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return "has no bbox [x, y, width, height] of finite numbers"
    if min(box[2:]) <= 0:
        x, y, w, h = box
        return f"has a box that is empty or inside out (x={x}, y={y}, w={w}, h={h})"
    return None


def _outline_fault(entry: Entry) -> str | None:
    outline = entry.get("segmentation") or None
    if outline is None:
        return None
    if isinstance(outline, dict):
        size, counts = outline.get("size"), outline.get("counts")
        whole = isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))
        if whole and isinstance(counts, str | list):
            return None
        return "has a segmentation without size [height, width] and counts"
    if isinstance(outline, list) and all(map(_is_polygon, outline)):
        return None
    return "has a segmentation that is no polygons of at least 3 corners [x, y, ...]"


def _crowd_fault(entry: Entry) -> str | None:
    crowd = entry.get("iscrowd")
    if crowd in (None, 0, 1):
        return None
    return f"has the iscrowd {crowd!r}, which is neither 0 nor 1"


def _is_polygon(x: Any) -> bool:
    long = isinstance(x, list) and len(x) >= 6 and len(x) % 2 == 0
    return long and all(map(_is_number, x))


def _is_side(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x > 0


def _is_number(x: Any) -> bool:
    number = isinstance(x, int | float) and not isinstance(x, bool)
    return number and abs(x) < LARGEST
