"""The entries of a COCO file of objects, checked."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from metajax.data.dense._coco_checks import (
    Entry,
    faults_of_annotations,
    faults_of_categories,
    faults_of_images,
    is_id,
    place_of,
)
from metajax.data.folders.names import clean
from metajax.data.pictures.faults import gather_faults
from metajax.errors import InputError

SHOWN = 10  # faults in a message
LISTS = ("images", "annotations", "categories")


class Thing(NamedTuple):
    """An object of an image, or a crowd of them.

    Attributes:
      place: which annotation it is.
      label: its class.
      box: left, top, width and height in pixels.
      outline: polygons or runs, see `metajax.data.dense._outlines`; None if it has
        none.
      crowd: whether it is several objects.
    """

    place: str
    label: int
    box: tuple[float, float, float, float]
    outline: Any
    crowd: bool


class Coco(NamedTuple):
    """What a COCO file says.

    Attributes:
      files: the name of each image's file.
      sizes: its (height, width), None where the file does not say.
      things: its objects.
      names: of the classes, in the order of the categories' numbers.
    """

    files: list[str]
    sizes: list[tuple[Any, Any]]
    things: list[list[Thing]]
    names: tuple[str, ...]


def parse_coco(path: Path) -> Coco:
    """Reads a COCO file.

    Raises:
      FilesError: if entries cannot be used; it counts them.
      InputError: if it is no such file.
    """
    images, annotations, categories = _load(path)
    places = {x["id"]: i for i, x in enumerate(images) if is_id(x.get("id"))}
    known = [x for x in categories if is_id(x.get("id"))]
    ordered = sorted(known, key=lambda x: (isinstance(x["id"], str), x["id"]))
    labels = {x["id"]: i for i, x in enumerate(ordered)}
    faults = [
        *faults_of_images(images, path),
        *faults_of_categories(categories, path),
        *faults_of_annotations(annotations, path, places, labels),
    ]
    if faults:
        raise gather_faults(faults, path.parent, SHOWN)
    things: list[list[Thing]] = [[] for _ in images]
    for i, entry in enumerate(annotations):
        label = labels[entry["category_id"]]
        thing = _thing(place_of("annotation", entry, i, path), label, entry)
        things[places[entry["image_id"]]].append(thing)
    sizes = [(x.get("height"), x.get("width")) for x in images]
    names = tuple(clean(x["name"]) for x in ordered)
    return Coco([x["file_name"] for x in images], sizes, things, names)


def _thing(place: str, label: int, entry: Entry) -> Thing:
    outline, crowd = entry.get("segmentation") or None, bool(entry.get("iscrowd"))
    return Thing(place, label, tuple(entry["bbox"]), outline, crowd)


def _load(path: Path) -> list[list[Entry]]:
    if not path.is_file():
        raise InputError(f"expected a COCO file at {path}, which is not there")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON ({error}); export it again as COCO"
        ) from error
    lists: list[Any] = [None]
    if isinstance(content, dict):
        lists = [content.get(x) for x in LISTS]
    if not all(isinstance(x, list) and all(map(_is_entry, x)) for x in lists):
        raise InputError(
            f"{path} is not a COCO file of objects: it must have the lists "
            f"{', '.join(LISTS)}, of objects; export it again as COCO instances"
        )
    if not lists[0] or not lists[2]:
        raise InputError(f"{path} has no images, or no categories; add some")
    return lists


def _is_entry(x: Any) -> bool:
    return isinstance(x, dict)
