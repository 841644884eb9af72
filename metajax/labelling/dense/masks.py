"""Masks: outlines of the pictures of a folder, as PNG files."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageColor

from metajax._files.writing import check_new_folder, new_folder
from metajax.data.dense.mask_folder import mask_folder
from metajax.data.dense.masks import write_names
from metajax.data.dense.store import DenseStore
from metajax.errors import InputError
from metajax.labelling.dense.marks import DenseTargets, Frame, Marked, Size, colour_of
from metajax.labelling.learner import ImageFormat
from metajax.losses import UNLABELLED
from metajax.metrics import Metric, image_iou

MASKS = "masks"
WIDTH = 2  # of an outline on a page, in pixels


class MaskMark(NamedTuple):
    """The mask of ONE picture.

    Attributes:
      values: 0 for the background, k + 1 for class k, `uint8[height, width]`.
      confidence: the mean probability of what is predicted, over pixels of objects, or
        over all if there are none.
    """

    values: np.ndarray
    confidence: float

    def parts(self) -> list[tuple[int, str]]:
        """The classes, each with its share of the picture.

        >>> MaskMark(np.array([[0, 0, 0, 2]], np.uint8), 1.0).parts()
        [(1, '25.0 %')]
        """
        counts = np.bincount(self.values.ravel())[1:]
        order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
        return [(k, f"{100 * counts[k] / self.values.size:.1f} %") for k in order]

    def draw(self, picture: Image.Image) -> None:
        """Draws the outlines of the objects."""
        mask = Image.fromarray(self.values)
        mask = np.asarray(mask.resize(picture.size, Image.Resampling.NEAREST))
        pixels = np.array(picture)
        for value in np.unique(mask[mask > 0]):
            inside = mask == value
            line = inside & ~_shrunk(inside, WIDTH)
            pixels[line] = ImageColor.getrgb(colour_of(int(value) - 1))
        picture.paste(Image.fromarray(pixels))


def masks() -> DenseTargets:
    """How labelling treats masks; see `DenseTargets`.

    What is written is a folder: `masks/NAME.png`, a mask for each picture and of its
    size, with the value k for line k of `classes.txt`; `classes.json` stands for that
    where its lines would be read otherwise, as if the first is `background`. With the
    pictures in `images/` it is a folder of `metajax.data.mask_folder`.
    """
    return DenseTargets(
        "masks",
        "intersection over union of each picture",
        _read,
        _metric,
        jax.nn.softmax,
        _mark,
        _check,
        _write,
    )


def _read(folder: Path, form: ImageFormat) -> DenseStore:
    return mask_folder(folder, form.size, color=form.mode == "RGB")


def _metric(classes: int) -> Metric:
    return image_iou(ignore=UNLABELLED)


def _mark(shares: Any, frame: Frame) -> MaskMark:
    guesses, surest = shares.argmax(-1), shares.max(-1)
    object_pixels = guesses > 0
    sure = surest[object_pixels] if object_pixels.any() else surest
    numbers = np.concatenate([[0], frame.classes + 1]).astype(np.uint8)
    return MaskMark(numbers[_largest(shares, frame.size)], float(sure.mean()))


def _largest(shares: np.ndarray, size: Size) -> np.ndarray:
    """The likeliest class of each pixel of a larger or smaller picture."""
    height, width = size
    best, guesses = np.full(size, -1.0, np.float32), np.zeros(size, np.uint8)
    for k in range(shares.shape[-1]):  # one at a time: a picture may be large
        plane = Image.fromarray(np.asarray(shares[..., k], np.float32))
        share = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
        guesses[share > best] = k
        best = np.maximum(best, share)
    return guesses


def _shrunk(inside: np.ndarray, by: int) -> np.ndarray:
    """A region without its edge; that of the picture is an edge too."""
    for _ in range(by):
        wide = np.pad(inside, 1)
        rows, columns = wide[2:] & wide[:-2], wide[:, 2:] & wide[:, :-2]
        inside = inside & rows[:, 1:-1] & columns[1:-1]
    return inside


def _check(flag: str, path: Path, folder: Path, files: Sequence[str]) -> None:
    if path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{flag} is in {folder}, where masks would be taken for pictures to label; "
            "choose another place"
        )
    check_new_folder(flag, path)
    names: dict[Path, str] = {}
    for file in files:
        if (other := names.setdefault(_place(file), file)) != file:
            raise InputError(
                f"{other} and {file} would both have the mask {_place(file)}; rename "
                "one of them"
            )


def _place(file: str) -> Path:
    """The path of a picture's mask below the folder that is written."""
    return MASKS / Path(PurePosixPath(file).with_suffix(".png"))


def _write(path: Path, names: Sequence[str], marked: Iterable[Marked]) -> None:
    palette = [0, 0, 0]
    for k in range(255):
        palette += ImageColor.getrgb(colour_of(k))
    with new_folder(path) as folder:
        for file, _, mark in marked:
            place = folder / _place(file)
            place.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(mark.values)
            picture.putpalette(palette)
            picture.save(place)
        write_names(folder, names)
