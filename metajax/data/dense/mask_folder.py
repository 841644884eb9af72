"""A folder of images with masks, as PNG files, as a store for dense episodes.

| file | what it is |
|---|---|
| `images/NAME.jpg`, `.png` ... | an image, at any depth |
| `masks/NAME.png` | its mask, paletted or grey, of its size: a value a class |
| `classes.txt` | the names of the values 1, 2, ..., a line each |
| `classes.json` | in its place, the names of any values: `{"1": "cat", "7": "dog"}` |

The value 0 is the background, and 255 is ignored. If the first of the names is
`background`, they are those of 0, 1, 2, .... Without names, a class is called by its
value, and there are as many classes as the largest value says. Images and masks are
turned upright as their EXIF data say.
"""

from pathlib import Path

import numpy as np

from metajax.data.dense._rows import Keeping, Rows
from metajax.data.dense.mask_files import MASKS, list_pairs
from metajax.data.dense.masks import (
    read_mask,
    read_names,
    shrink,
    table_of,
    unusable,
)
from metajax.data.dense.store import MOST_CLASSES, DenseStore
from metajax.data.folders.folder import check_cache, check_size
from metajax.data.folders.names import some
from metajax.data.folders.prepared import Files
from metajax.data.pictures.decoding import size_of
from metajax.errors import InputError
from metajax.losses import UNLABELLED


def mask_folder(
    path: str | Path,
    size: tuple[int, int] = (84, 84),
    *,
    color: bool = True,
    cache: str | Path | None = None,
    mapped: bool = False,
) -> DenseStore:
    """The images and masks of a folder, as `metajax.data.dense.mask_folder` has them.

    Images are resized, whatever their proportions, with Lanczos' filter, and masks by
    the nearest pixel: an object smaller than a pixel of the result may be lost.

    Args:
      path: the folder.
      size: (height, width) of the result in pixels.
      color: three channels; one, grey, if False.
      cache: a folder in which to keep the decoded images and masks. They are decoded
        again when a file's name, size or time of change is another.
      mapped: leave them in that folder, for `stream_dense_episodes`.

    Returns:
      A `DenseStore` without boxes, its images sorted by name.

    Raises:
      FilesError: if files cannot be read or used; it lists all of them.
      InputError: if there are no images, no room or no class in a mask, if
        `classes.txt` or `classes.json` cannot be used, or without a `cache` to map.

    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for part in ("images", "masks"):
    ...     (folder / part).mkdir()
    >>> Image.new("RGB", (120, 90), "red").save(folder / "images" / "tom.jpg")
    >>> mask = Image.new("L", (120, 90))
    >>> mask.paste(1, (0, 0, 60, 90))  # the left half
    >>> mask.save(folder / "masks" / "tom.png")
    >>> _ = (folder / "classes.txt").write_text("cat")
    >>> store = mask_folder(folder, (3, 4))
    >>> store.images.shape, store.masks[0].tolist(), store.names
    ((1, 3, 4, 3), [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], ('cat',))
    """
    size, kept = check_size(size), check_cache(cache, mapped)
    folder = Path(path)
    images, masks = list_pairs(folder)
    names = read_names(folder)
    values = list(names or range(1, MOST_CLASSES + 1))
    keeping = Keeping(folder, kept, mapped)
    rows = keeping.pictures(images, size, "RGB" if color else "L")
    pictures, painted = keeping.arrays(
        rows, _mask_rows(folder, images, masks, size, values)
    )
    _check_painted(folder, painted)
    called = _counted(painted) if names is None else tuple(names.values())
    return DenseStore(pictures, painted, None, called, rows.bits)


def _mask_rows(
    folder: Path,
    images: list[Path],
    masks: list[Path],
    size: tuple[int, int],
    values: list[int],
) -> Rows:
    table = table_of(values)

    def read(i: int) -> np.ndarray:
        mask = table[read_mask(masks[i], size_of(images[i]))]
        if (mask < 0).any():
            unknown = np.unique(read_mask(masks[i], mask.shape)[mask < 0])
            reason = f"is a mask with the value {some(map(str, unknown))}, of no class"
            raise unusable(masks[i], reason, "name it in classes.txt or classes.json")
        return shrink(mask.astype(np.uint8), size)

    files = Files(folder, [*images, *masks])
    return Rows((len(masks), *size), read, files, ("masks", size, values))


def _check_painted(folder: Path, masks: np.ndarray) -> None:
    """Checks that some mask holds a class, which those of 0 and 255 do not."""
    # Most often the first mask does, and the others are not read.
    if not any(((mask > 0) & (mask < UNLABELLED)).any() for mask in masks):
        raise InputError(
            f"no mask in {folder / MASKS} holds a class: all values are 0, background, "
            f"or {UNLABELLED}, ignored; save objects as 1, 2, ..."
        )


def _counted(masks: np.ndarray) -> tuple[str, ...]:
    """Names of the values of masks, from 1 to the largest."""
    seen = np.zeros(UNLABELLED + 1, bool)
    for mask in masks:
        seen[mask] = True
    largest = int(np.flatnonzero(seen[:UNLABELLED])[-1])
    return tuple(map(str, range(1, largest + 1)))
