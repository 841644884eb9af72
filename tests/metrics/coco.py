"""Boxes and detections, and their average precision by pycocotools and by loops."""

import contextlib
import io

import numpy as np
import pytest

from metajax.detection import Boxes, Detections

CLASSES, IMAGES = 3, 4


def drawn(seed, whole=True, tasks=12, most=9):
    """`Detections` and `Boxes` of tasks, `[tasks, images, ...]`.

    Many detections are close to an object. Whole pixels give overlaps that are equal,
    or a threshold itself; scores are few, so that there are ties. One in five images
    has no objects, and one in five no detections.
    """
    random = np.random.default_rng(seed)
    low = random.uniform(0, 6, (tasks, IMAGES, 5, 2))
    boxes = np.concatenate([low, low + random.uniform(2, 7, low.shape)], -1)
    labels = random.integers(0, CLASSES, boxes.shape[:3])
    there = random.random(labels.shape) < 0.7
    there &= random.random((tasks, IMAGES, 1)) < 0.8
    near = random.integers(0, 5, (tasks, IMAGES, most))
    guesses = np.take_along_axis(labels, near, 2)
    guesses = np.where(random.random(near.shape) < 0.8, guesses, 0)
    off = random.choice([0, 0.4, 3], near.shape)[..., None]
    corners = np.take_along_axis(boxes, near[..., None], 2)
    corners = corners + random.normal(size=corners.shape) * off
    scores = np.rint(4 * random.random(near.shape) - 2 * off[..., 0])
    seen = random.random(near.shape) < 0.8
    seen &= random.random((tasks, IMAGES, 1)) < 0.8
    rounded = np.rint if whole else np.asarray
    return (
        Detections(
            np.float32(rounded(corners)), np.int32(guesses), np.float32(scores), seen
        ),
        Boxes(np.float32(rounded(boxes)), np.int32(labels), there),
    )


def by_loops(detections, boxes, thresholds, most=100):
    """One class, threshold, image and recall after the other."""
    values = []
    for c in range(CLASSES):
        objects = (boxes.present & (boxes.labels == c)).sum()
        for threshold in thresholds if objects else ():
            pairs = _judged(detections, boxes, c, threshold, most)
            pairs.sort(key=lambda pair: -pair[0])
            right = np.cumsum([hit for _, hit in pairs])
            for recall in np.linspace(0, 1, 101):
                reached = [
                    k / n for n, k in enumerate(right, 1) if k / objects >= recall
                ]
                values.append(max(reached, default=0.0))
    return np.mean(values) if values else np.nan


def _judged(detections, boxes, c, threshold, most):
    """The score of each detection of a class, and whether it takes an object."""
    pairs = []
    for at in np.ndindex(boxes.labels.shape[:2]):
        corners, labels, scores, present = (x[at] for x in detections)
        own = np.flatnonzero(present & (labels == c))
        own = sorted(own, key=lambda i: -scores[i])[:most]
        free = [
            corners.astype(float)
            for corners, label, there in zip(*(x[at] for x in boxes))
            if there and label == c
        ]
        for i in own:
            best, taken = threshold, None
            for j, box in enumerate(free):
                if (share := iou(corners[i].astype(float), box)) >= best:
                    best, taken = share, j
            pairs.append((scores[i], taken is not None))
            if taken is not None:
                del free[taken]
    return pairs


def iou(a, b):
    """In double precision, as pycocotools has it."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(sides) if (sides > 0).all() else 0.0
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union else 0.0


def by_pycocotools(detections, boxes, thresholds, most=100):
    """All images of all tasks as one data set."""
    pytest.importorskip("pycocotools")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_data_set(boxes), _data_set(detections), "bbox")
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.maxDets = [most]
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # -1 of a class without objects
    return precision[precision > -1].mean()


def _data_set(objects):
    from pycocotools.coco import COCO

    images, data = list(np.ndindex(objects.labels.shape[:2])), COCO()
    data.dataset = {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": c} for c in range(CLASSES)],
        "annotations": [
            _annotation(i, **{k: x[at][j] for k, x in objects._asdict().items()})
            for i, at in enumerate(images)
            for j in np.flatnonzero(objects.present[at])
        ],
    }
    for number, annotation in enumerate(data.dataset["annotations"], 1):
        annotation["id"] = number  # 0 would be taken for no match
    data.createIndex()
    return data


def _annotation(image, *, corners, labels, present, scores=0.0):
    left, top, right, bottom = corners.tolist()
    box = [left, top, right - left, bottom - top]
    return {
        "image_id": image,
        "category_id": int(labels),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "score": float(scores),
    }
