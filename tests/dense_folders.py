"""Small folders of pictures of squares, a colour a class, with masks or with boxes."""

import json

import numpy as np
from PIL import Image

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "grey": (90, 90, 90),
}


def square(seed, height, width):
    """(left, top, right, bottom) of a square."""
    random = np.random.default_rng(seed)
    side = min(height, width) // 2
    left, top = random.integers(0, [width - side, height - side])
    return int(left), int(top), int(left + side), int(top + side)


def paint(name, seed, size=(40, 48)):
    """A picture of one square on white, its mask of ones, and the square."""
    height, width = size
    left, top, right, bottom = box = square(seed, height, width)
    pixels, mask = np.full((*size, 3), 255, np.uint8), np.zeros(size, np.uint8)
    pixels[top:bottom, left:right] = COLOURS[name]
    mask[top:bottom, left:right] = 1
    return Image.fromarray(pixels), mask, box


def write_masks(folder, names, pictures=4, first=0, **settings):
    """A folder of `mask_folder`, of so many pictures of a class, or of each."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    counts = np.broadcast_to(pictures, len(names))
    for k, (name, count) in enumerate(zip(names, counts)):
        for i in range(first, first + count):
            picture, mask, _ = paint(name, 100 * k + i, **settings)
            picture.save(folder / "images" / f"{name}{i}.png")
            Image.fromarray((k + 1) * mask).save(folder / "masks" / f"{name}{i}.png")
    (folder / "classes.txt").write_text("\n".join(names))
    return folder


def write_boxes(folder, names, pictures=4, first=0, **settings):
    """A folder of `coco_folder`, of so many pictures of a class, or of each."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    coco = {"images": [], "annotations": [], "categories": []}
    counts = np.broadcast_to(pictures, len(names))
    for k, (name, count) in enumerate(zip(names, counts)):
        coco["categories"].append({"id": 3 * k + 2, "name": name})
        for i in range(first, first + count):
            picture, _, box = paint(name, 100 * k + i, **settings)
            left, top, right, bottom = box
            picture.save(folder / "images" / f"{name}{i}.png")
            number = len(coco["images"]) + 1
            coco["images"].append({"id": number, "file_name": f"{name}{i}.png"})
            entry = {"bbox": [left, top, right - left, bottom - top], "id": number}
            entry |= {"image_id": number, "category_id": 3 * k + 2}
            coco["annotations"].append(entry)
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder
