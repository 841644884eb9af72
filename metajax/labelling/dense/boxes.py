"""Boxes: objects in the pictures of a folder, as a file in COCO's form."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from metajax._files.writing import check_writable, write_whole
from metajax.data.dense.coco_folder import coco_folder
from metajax.data.dense.store import DenseStore
from metajax.detection import Detections
from metajax.errors import InputError
from metajax.labelling.dense.marks import DenseTargets, Frame, Marked, Size, colour_of
from metajax.labelling.learner import ImageFormat
from metajax.metrics import Metric, average_precision

LEAST = 0.05  # score of a box that is written
SHOWN = 0.3  # likewise, that is drawn
SMALLEST = 0.5  # side of a box that is written, in pixels
HEAD = '{"info": {"description": "boxes of metajax label"}'  # begins each file


class BoxMark(NamedTuple):
    """The boxes of ONE picture, the surest first.

    Attributes:
      corners: (left, top, right, bottom) in pixels, `float[boxes, 4]`.
      labels: the class of each, `int[boxes]`.
      scores: `float[boxes]`, in [0, 1].
      size: of the picture.
    """

    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    size: Size

    @property
    def confidence(self) -> float:
        """The highest score; 0 without a box."""
        return float(self.scores.max(initial=0.0))

    def parts(self) -> list[tuple[int, str]]:
        """The classes of the boxes that are drawn, each with its score."""
        return [(label, f"{score:.2f}") for _, label, score in self._drawn()]

    def draw(self, picture: Image.Image) -> None:
        """Draws the boxes that are not too unsure."""
        height, width = self.size
        scale = np.array([picture.width / width, picture.height / height] * 2)
        pen = ImageDraw.Draw(picture)
        for corners, label, _ in reversed(self._drawn()):
            left, top, right, bottom = (float(x) for x in corners * scale)
            box = left, top, max(left, right - 1), max(top, bottom - 1)
            pen.rectangle(box, outline=colour_of(label), width=2)

    def _drawn(self) -> list[tuple[np.ndarray, int, float]]:
        rows = zip(self.corners, self.labels.tolist(), self.scores.tolist())
        return [row for row in rows if row[2] >= SHOWN]


def boxes(decode: Callable[[Any], Detections], most: int) -> DenseTargets:
    """How labelling treats boxes; see `DenseTargets`.

    What is written is a file of COCO's form, with the score of each box. Beside the
    pictures it is one of `metajax.data.coco_folder`.

    Args:
      decode: from the outputs of a detector to its detections.
      most: how many of a picture count.
    """
    return DenseTargets(
        "boxes",
        "average precision at an overlap of 0.5 (AP50)",
        _read,
        partial(_metric, decode, most),
        decode,
        _mark,
        _check,
        _write,
    )


def _read(folder: Path, form: ImageFormat) -> DenseStore:
    color = form.mode == "RGB"
    return coco_folder(folder, form.size, masks=False, color=color)


def _metric(decode: Callable[[Any], Detections], most: int, classes: int) -> Metric:
    return average_precision(classes, 0.5, decode=decode, most=most)


def _mark(detections: Detections, frame: Frame) -> BoxMark:
    (rows, columns), (height, width) = frame.seen, frame.size
    scale = np.array([width / columns, height / rows] * 2)
    corners = np.clip(detections.corners * scale, 0, [width, height] * 2)
    scores = np.asarray(detections.scores)
    sides = (corners[:, 2:] - corners[:, :2]).min(-1)
    kept = detections.present & (scores >= LEAST) & (sides >= SMALLEST)
    labels = frame.classes[detections.labels[kept]]
    return BoxMark(corners[kept], labels, scores[kept], frame.size)


def _check(flag: str, path: Path, folder: Path, files: Sequence[str]) -> None:
    check_writable(flag, path)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            own = file.read(len(HEAD)) == HEAD.encode()
        if not own:
            raise InputError(
                f"{flag} would be written over {path}, which is not a file of this "
                "command; choose another name"
            )


def _write(path: Path, names: Sequence[str], marked: Iterable[Marked]) -> None:
    images, annotations = [], []
    for file, (height, width), mark in marked:
        number = len(images) + 1
        sides = {"width": width, "height": height}
        images.append({"id": number, "file_name": file, **sides})
        for corners, label, score in zip(*mark[:3]):
            left, top, right, bottom = (round(float(x), 2) for x in corners)
            box = [left, top, round(right - left, 2), round(bottom - top, 2)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": round(float(score), 4),
                }
            )
    lists = {
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        "images": images,
        "annotations": annotations,
    }
    write_whole(path, HEAD + ", " + json.dumps(lists)[1:] + "\n")
