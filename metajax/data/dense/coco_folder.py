"""A folder of images with a COCO file of objects, as a store for dense episodes.

The file, `annotations.json`, has the lists `images` (`id`, `file_name`), `categories`
(`id`, `name`) and `annotations` (`image_id`, `category_id`, `bbox`, `segmentation`,
`iscrowd`). Images are looked for in `images/` of the folder first, then in the folder
itself. Classes are the categories in the order of their numbers, which may have gaps.

A `bbox` is [left, top, width, height] in pixels. A `segmentation` is a list of
polygons, whose pixels are those with their centre in one of them, or run lengths, plain
or compressed. In masks, an object lies before those that are larger. A crowd
(`iscrowd`) is ignored in masks where no object is, and left out of the boxes. If only
some objects have outlines, the boxes of the others are ignored in masks likewise.
"""

from pathlib import Path
from typing import Any

import numpy as np

from metajax.data.dense._coco import Thing
from metajax.data.dense._coco_checks import MEND
from metajax.data.dense._outlines import fill, paint
from metajax.data.dense._rows import Keeping, Rows
from metajax.data.dense.coco_files import Pictures, read_pictures
from metajax.data.dense.masks import shrink
from metajax.data.dense.store import MOST_CLASSES, DenseStore
from metajax.data.folders.folder import check_cache, check_size
from metajax.data.folders.prepared import Files
from metajax.data.pictures.faults import gather_faults
from metajax.detection import Boxes
from metajax.errors import Fault, InputError
from metajax.losses import UNLABELLED

ANNOTATIONS = "annotations.json"


def coco_folder(
    path: str | Path,
    size: tuple[int, int] = (84, 84),
    *,
    annotations: str | Path = ANNOTATIONS,
    masks: bool = True,
    color: bool = True,
    cache: str | Path | None = None,
    mapped: bool = False,
) -> DenseStore:
    """The images, masks and boxes of a COCO file; see `metajax.data.dense.coco_folder`.

    Images are resized as by `mask_folder`. Boxes that are a pixel too large are cut.

    Args:
      path: the folder.
      size: (height, width) of the result in pixels.
      annotations: the file, below the folder.
      masks: masks too, if there are outlines; only boxes if False.
      color: three channels; one, grey, if False.
      cache: see `mask_folder`.
      mapped: see there.

    Returns:
      A `DenseStore`, its images in the order of the file.

    Raises:
      InputError: if files or entries cannot be used (`FilesError`, which counts them):
        numbers that are repeated or unknown, boxes outside of their image or inside
        out, images that are not there or of another size; if the file is not of COCO's
        form; if there are too many classes for masks, no room, or no `cache` to map.

    >>> import json, tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (80, 40), "red").save(folder / "tom.jpg")
    >>> cat = {"id": 1, "image_id": 7, "category_id": 17, "bbox": [20, 10, 40, 20]}
    >>> cat["segmentation"] = [[20, 10, 60, 10, 60, 30, 20, 30]]
    >>> names = {"categories": [{"id": 17, "name": "cat"}]}
    >>> images = {"images": [{"id": 7, "file_name": "tom.jpg"}]}
    >>> with (folder / "annotations.json").open("w") as file:
    ...     json.dump({**images, **names, "annotations": [cat]}, file)
    >>> store = coco_folder(folder, (4, 4))
    >>> store.boxes.corners.tolist(), store.masks[0].tolist()
    ([[[1.0, 1.0, 3.0, 3.0]]],
     [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
    """
    size, kept, folder = check_size(size), check_cache(cache, mapped), Path(path)
    pictures = read_pictures(folder, folder / annotations)
    keeping = Keeping(folder, kept, mapped)
    parts = [keeping.pictures(pictures.files, size, "RGB" if color else "L")]
    if masks and any(thing.outline for each in pictures.things for thing in each):
        parts.append(_mask_rows(folder, pictures, size))
    images, *painted = keeping.arrays(*parts)
    boxes, painted = _boxes(pictures, size), painted[0] if painted else None
    return DenseStore(images, painted, boxes, pictures.names, parts[0].bits)


def _mask_rows(folder: Path, pictures: Pictures, size: tuple[int, int]) -> Rows:
    if (classes := len(pictures.names)) > MOST_CLASSES:
        raise InputError(
            f"masks hold at most {MOST_CLASSES} classes, and {pictures.source} has "
            f"{classes} categories; use masks=False, or delete categories"
        )

    def read(i: int) -> np.ndarray:
        return shrink(_mask(folder, pictures.things[i], pictures.sizes[i]), size)

    files = Files(folder, [pictures.source, *pictures.files])
    return Rows((len(pictures.files), *size), read, files, ("coco", size))


def _mask(folder: Path, things: list[Thing], size: tuple[int, int]) -> np.ndarray:
    """The mask of an image, as large as that."""
    unknown, objects, faults = [], [], []
    for thing in things:
        try:
            pixels = fill(thing.outline or [_rectangle(thing.box)], size)
        except ValueError as error:
            reason = f"has a segmentation that cannot be read ({error})"
            faults.append(Fault(thing.place, reason, MEND))
            continue
        if thing.crowd or thing.outline is None:
            unknown.append(pixels)
        else:
            objects.append((thing.label + 1, pixels))
    if faults:
        raise gather_faults(faults, folder)
    return paint(size, unknown, objects, UNLABELLED)


def _rectangle(box: tuple[float, float, float, float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def _boxes(pictures: Pictures, size: tuple[int, int]) -> Boxes:
    """The boxes of all objects that are no crowds, in the pixels of the result."""
    single = [[thing for thing in each if not thing.crowd] for each in pictures.things]
    shape = len(single), max(1, *map(len, single))
    corners: Any = np.zeros((*shape, 4), np.float32)
    labels: Any = np.zeros(shape, np.int32)
    present: Any = np.zeros(shape, bool)
    for i, (things, (height, width)) in enumerate(zip(single, pictures.sizes)):
        for j, thing in enumerate(things):
            x, y, w, h = thing.box
            cut = np.clip([x, y, x + w, y + h], 0, [width, height] * 2)
            corners[i, j] = cut * ([size[1] / width, size[0] / height] * 2)
            labels[i, j], present[i, j] = thing.label, True
    return Boxes(corners, labels, present)
