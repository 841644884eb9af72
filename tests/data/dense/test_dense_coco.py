"""Folders with a COCO file: what is read, and every mistake."""

import json

import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.data import coco_folder
from tests.data.dense.test_dense_rle import runs

FULL = [[0, 0, 8, 0, 8, 4, 0, 4]]
SIZE = (4, 8)


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def thing(number, image, category, box, outline=(), **more):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "segmentation": outline or [],
        **more,
    }


def content():
    """Two images 8x4, one 16x8; categories with gaps, in another order."""
    left = np.zeros((8, 16), bool)
    left[:, :8] = True
    return {
        "images": [
            {"id": 30, "file_name": "a.png", "width": 8, "height": 4},
            {"id": 10, "file_name": "b.png"},
            {"id": 20, "file_name": "sub/c.png"},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 5, "name": "cat"}],
        "annotations": [
            thing(1, 30, 90, [0, 0, 4, 2], polygon(0, 0, 4, 2)),
            thing(2, 30, 5, [0, 0, 8, 4], FULL),
            thing(3, 30, 5, [0, 0, 8, 4], polygon(0, 0, 8, 4), iscrowd=1),
            thing(4, 20, 90, [0, 0, 8, 8], runs(left)),
        ],
    }


def write(folder, content, name="annotations.json"):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "images" / "sub").mkdir(exist_ok=True, parents=True)
    sizes = {"images/a.png": (8, 4), "b.png": (8, 4), "images/sub/c.png": (16, 8)}
    for file, size in sizes.items():
        Image.new("RGB", size, (9, 8, 7)).save(folder / file)
    (folder / name).write_text(json.dumps(content))
    return folder


def refused(*args, **settings):
    """The one line of the error."""
    with pytest.raises(mj.InputError) as caught:
        coco_folder(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_masks_and_boxes(tmp_path):
    store = coco_folder(write(tmp_path, content()), SIZE)
    assert store.names == ("cat", "dog"), "by the numbers of the categories"
    assert store.images.shape == (3, *SIZE, 3)
    dog, cat = np.full((2, 4), 2), 1
    expected = np.full((4, 8), cat)
    expected[:2, :4] = dog
    assert np.array_equal(store.masks[0], expected), "the small one on top"
    assert not store.masks[1].any()
    half = np.repeat([[2] * 4 + [0] * 4], 4, 0)
    assert np.array_equal(store.masks[2], half)
    corners, labels, present = store.boxes
    assert present.tolist() == [[True, True], [False, False], [True, False]]
    assert labels.tolist() == [[1, 0], [0, 0], [1, 0]]
    assert corners[0].tolist() == [[0, 0, 4, 2], [0, 0, 8, 4]], "no crowd"
    assert corners[2, 0].tolist() == [0, 0, 4, 4], "scaled"
    assert (corners.dtype, labels.dtype, present.dtype) == (np.float32, np.int32, bool)


def test_crowds_and_boxes_without_outlines_are_ignored(tmp_path):
    said = content()
    said["annotations"][1]["segmentation"] = []
    said["annotations"][2]["bbox"] = [0, 2, 8, 2]
    said["annotations"][2]["segmentation"] = runs(np.ones((4, 8), bool))
    store = coco_folder(write(tmp_path, said), SIZE)
    expected = np.full((4, 8), 255)
    expected[:2, :4] = 2
    assert np.array_equal(store.masks[0], expected)
    assert store.boxes.present[0].tolist() == [True, True]


def test_boxes_alone(tmp_path):
    said = content()
    assert coco_folder(write(tmp_path, said), SIZE, masks=False).masks is None
    for annotation in said["annotations"]:
        annotation["segmentation"] = []
    store = coco_folder(write(tmp_path, said, "boxes.json"), annotations="boxes.json")
    assert store.masks is None and store.boxes.present.sum() == 3
    said["categories"] += [{"id": 100 + i, "name": f"c{i}"} for i in range(300)]
    assert len(coco_folder(write(tmp_path, said), SIZE).names) == 302
    said["annotations"][0]["segmentation"] = polygon(0, 0, 4, 2)
    words = refused(write(tmp_path, said), SIZE)
    assert "at most 254 classes" in words and "302 categories; use masks=False" in words


def test_a_rounded_box_is_cut(tmp_path):
    said = content()
    said["annotations"][1]["bbox"] = [-0.5, 0, 9, 4.02]
    store = coco_folder(write(tmp_path, said), SIZE)
    assert store.boxes.corners[0, 1].tolist() == [0, 0, 8, 4]


def change(place, **fields):
    kind, number = place

    def edit(content):
        content[kind][number].update(fields)

    return edit


def repeat(kind):
    return lambda content: content[kind].append(content[kind][0])


FIRST = ("annotations", 0)
FAULTS = {
    "outside": (
        change(FIRST, bbox=[5, 1, 6, 2]),
        "annotation 1 of {0} has a box outside of its image of 8x4 pixels "
        "(x=5, y=1, w=6, h=2); correct it, or delete it",
    ),
    "beside": (change(FIRST, bbox=[8, 1, 0.5, 2]), "has a box outside of its image"),
    "inside out": (
        change(FIRST, bbox=[5, 1, -4, 2]),
        "has a box that is empty or inside out (x=5, y=1, w=-4, h=2)",
    ),
    "no box": (change(FIRST, bbox=None), "has no bbox [x, y, width, height]"),
    "infinite": (change(FIRST, bbox=[0, 0, 1e999, 2]), "has no bbox"),
    "huge": (change(FIRST, bbox=[0, 0, 10**400, 2]), "has no bbox"),
    "NaN": (change(FIRST, bbox=[0, float("nan"), 1, 2]), "has no bbox"),
    "outline": (
        change(FIRST, segmentation=polygon(0, 0, 4, 9)),
        "has an outline that leaves its image of 8x4 pixels",
    ),
    "two corners": (change(FIRST, segmentation=[[0, 0, 1, 1]]), "at least 3 corners"),
    "flat": (change(FIRST, segmentation=[0, 0, 1, 1, 0, 1]), "at least 3 corners"),
    "no counts": (change(FIRST, segmentation={"size": [4, 8]}), "size [height, width]"),
    "damaged": (
        change(FIRST, segmentation={"size": [4, 8], "counts": [9]}),
        "cannot be read (its counts are of 9 pixels, not 32)",
    ),
    "other size": (
        change(FIRST, segmentation={"size": [8, 4], "counts": [32]}),
        "cannot be read (it is of 4x8 pixels, and the image has 8x4)",
    ),
    "text": (change(FIRST, iscrowd="0"), "iscrowd '0', which is neither 0 nor 1"),
    "crowds": (change(FIRST, iscrowd=2), "annotation 1 of {0} has the iscrowd 2,"),
    "image": (change(FIRST, image_id=77), "has the image_id 77, which is not listed"),
    "list": (change(FIRST, image_id=[1]), "has the image_id [1], which is not listed"),
    "category": (change(FIRST, category_id="cat"), "has the category_id 'cat', which"),
    "annotations": (repeat("annotations"), "annotation 1 of {0} has the id 1 of an"),
    "images": (repeat("images"), "image 30 of {0} has the id 30 of an earlier one"),
    "categories": (repeat("categories"), "category 90 of {0} has the id 90 of an"),
    "one name": (
        change(("categories", 0), name="cat "),
        "category 5 of {0} has the name cat of an earlier one",
    ),
    "no name": (change(("categories", 0), name=""), "category 90 of {0} has no name"),
    "no id": (change(("images", 0), id=None), "image [0] of {0} has no id"),
    "one file": (
        change(("images", 0), file_name="b.png"),
        "image 10 of {0} has the file_name b.png of an earlier one",
    ),
    "turned": (
        change(("images", 0), width=4, height=8),
        "a.png has 8x4 pixels, and annotations.json says 4x8; use the image that was",
    ),
}


@pytest.mark.parametrize("edit, words", FAULTS.values(), ids=FAULTS.keys())
def test_faults(tmp_path, edit, words):
    said = content()
    edit(said)
    folder = write(tmp_path, said)
    file = folder / "annotations.json"
    message = refused(folder, SIZE)
    short = message.replace(f"{folder}/", "")
    assert words.format(file) in message or words.format(file.name) in short


def test_images_that_are_not_there(tmp_path):
    said = content()
    for i in range(7):
        said["images"].append({"id": i, "file_name": f"lost{i}.jpg"})
    message = refused(write(tmp_path, said))
    assert "names 7 images that are neither in" in message
    assert "lost0.jpg, lost1.jpg, lost2.jpg" in message


@pytest.mark.parametrize("again", ["images/a.png", "./a.png", "sub/../a.png"])
def test_an_image_of_two_names(tmp_path, again):
    said = content()
    said["images"].append({"id": 1, "file_name": again})
    message = refused(write(tmp_path, said))
    assert f"twice, as a.png and {again}; put its objects into one entry" in message


def test_many_faults_are_counted(tmp_path):
    said = content()
    said["annotations"] += [
        thing(100 + i, 1000 + i, 5, [0, 0, 1, 1]) for i in range(40)
    ]
    message = refused(write(tmp_path, said))
    assert f"40 annotations in {tmp_path} cannot be used: annotation 100 of" in message
    assert "annotation 109 of" in message and "annotation 110 of" not in message
    assert "; and 30 more; correct it, or delete it" in message


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is not JSON"),
        ("[1]", "is not a COCO file of objects"),
        ('{"images": []}', "must have the lists images, annotations, categories"),
        ('{"images": [1], "annotations": [], "categories": []}', "of objects"),
        ('{"images": [], "annotations": [], "categories": []}', "has no images"),
        ("\xff", "is not JSON"),
    ],
)
def test_no_coco_file(tmp_path, text, words):
    (tmp_path / "annotations.json").write_bytes(text.encode("latin-1"))
    assert words in refused(tmp_path)


def test_nothing_there(tmp_path):
    assert "expected a COCO file at" in refused(tmp_path)
    assert "which is not there" in refused(tmp_path / "nowhere")
    folder = write(tmp_path, content())
    (folder / "b.png").write_bytes(b"damaged")
    assert "b.png cannot be read as an image" in refused(folder)


def test_cache(tmp_path):
    folder, cache = write(tmp_path / "data", content()), tmp_path / "cache"
    fresh = coco_folder(folder, SIZE)
    mapped = coco_folder(folder, SIZE, cache=cache, mapped=True)
    assert isinstance(mapped.masks, np.memmap)
    assert np.array_equal(mapped.masks, fresh.masks)
    assert np.array_equal(mapped.images, fresh.images)
    said = content()
    said["annotations"][0]["segmentation"] = polygon(0, 0, 1, 1)
    again = coco_folder(write(folder, said), SIZE, cache=cache, mapped=True)
    assert (again.masks[0] == 2).sum() == 1
