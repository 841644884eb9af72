"""Folders of images with PNG masks: modes, names, caches and every mistake."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.data import mask_folder
from metajax.data.dense import mask_folder as module
from metajax.data.dense.masks import read_names, write_names

SIZE = (4, 6)
VALUES = np.array([[0, 1], [2, 255]], np.uint8)


def write(folder, name, values=VALUES, mode="L", suffix=".png"):
    """An image of a colour, and its mask, each value 3 pixels wide and 2 high."""
    values = np.asarray(values, np.uint8)
    image = folder / "images" / f"{name}{suffix}"
    mask = folder / "masks" / f"{name}.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.kron(values, np.ones((2, 3), values.dtype))
    Image.new("RGB", pixels.shape[::-1], (9, 8, 7)).save(image)
    if mode == "P":
        picture = Image.fromarray(pixels)
        picture.putpalette(list(range(255, -1, -1)) * 3)
    else:
        picture = Image.fromarray(pixels).convert(mode)
    picture.save(mask)
    return folder


def grey_png(bits, rows, width):
    """A PNG of fewer bits a pixel than Pillow writes."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def refused(*args, **settings):
    """The one line of the error."""
    with pytest.raises(mj.InputError) as caught:
        mask_folder(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_value_a_class(tmp_path, mode):
    write(tmp_path, "b/2", mode=mode, suffix=".jpg")
    write(tmp_path, "a", [[0, 1], [3, 0]], mode)
    store = mask_folder(tmp_path, SIZE)
    assert store.names == ("1", "2", "3") and store.boxes is None
    assert store.images.shape == (2, *SIZE, 3) and store.images.dtype == np.uint8
    assert np.abs(store.images[0] - np.array([9, 8, 7])).max() <= 1
    assert store.masks.dtype == np.uint8
    assert np.array_equal(store.masks[0], np.kron([[0, 1], [3, 0]], np.ones((2, 3))))
    small = mask_folder(tmp_path, (2, 2), color=False)
    assert np.array_equal(small.masks[1], VALUES) and small.images.shape[-1] == 1


def test_names(tmp_path):
    write(tmp_path, "a", [[0, 1], [7, 255]])
    (tmp_path / "classes.json").write_text(json.dumps({"7": "dog", "1": "cat"}))
    store = mask_folder(tmp_path, (2, 2))
    assert store.names == ("cat", "dog")
    assert store.masks.tolist() == [[[0, 1], [2, 255]]]
    (tmp_path / "classes.txt").write_text("cat")
    assert "has classes.txt and classes.json; keep one" in refused(tmp_path)
    (tmp_path / "classes.json").unlink()
    assert "masks/a.png is a mask with the value 7, of no class" in refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("cat\ndog\n", "background\ncat\n dog", "\ufeffcat\r\ndog\r\n \r\n"),
        "__ignore__\n_background_\ncat\ndog",
    ],
)
def test_a_name_a_line(tmp_path, text):
    write(tmp_path, "a")
    (tmp_path / "classes.txt").write_text(text)
    assert mask_folder(tmp_path, SIZE).names == ("cat", "dog")


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("classes.txt", "", "it names no class"),
        ("classes.txt", "cat\ncat", "two classes are called cat"),
        ("classes.txt", "cat\n" * 300, "values must be 1 to 254"),
        ("classes.json", "{", "must name classes"),
        ("classes.json", "3", "neither a list nor an object"),
        ("classes.json", '{"1": ""}', "a class has no name"),
        ("classes.json", '{"cat": 1}', "the key 'cat' is not a pixel value"),
        ("classes.json", '{"categories": [{"id": 1}]}', "the key 'id' is not a pixel"),
        ("classes.json", '{"-1": "cat"}', "values must be 1 to 254"),
        ("classes.json", '{"1": "cat", "01": "dog"}', "a value is named twice"),
        ("classes.json", '{"1": "cat", "1": "dog"}', "a value is named twice"),
        ("classes.json", '{"1": "cat", "2": null}', "the name None is not a text"),
        ("classes.json", '["cat", null, "dog"]', "the name None is not a text"),
        ("classes.json", '["cat", "", "dog"]', "entry 2 is blank"),
        ("classes.txt", "cat\n\ndog", "line 2 is blank"),
        ("classes.txt", "__ignore__\nbackground\n \ncat", "line 3 is blank"),
    ],
)
def test_names_that_cannot_be_used(tmp_path, name, text, words):
    write(tmp_path, "a")
    (tmp_path / name).write_text(text)
    said = refused(tmp_path)
    assert words in said and name in said


@pytest.mark.parametrize(
    "names",
    [("cat", "dog"), ("Background", "cat"), ("__ignore__",), ("a\u2028b", "c\nd")],
)
def test_written_names_are_read_again(tmp_path, names):
    """Also those that stand for something else at the head of `classes.txt`."""
    write_names(tmp_path, names)
    assert read_names(tmp_path) == dict(enumerate(names, 1))
    assert (tmp_path / "classes.txt").exists() == (names[0] == "cat")


@pytest.mark.parametrize(
    "bits, row, expected",
    [
        (1, b"\x50", [0, 1, 0, 1]),
        (2, b"\x1b", [0, 1, 2, 3]),
        (4, b"\x0a\x23", [0, 10, 2, 3]),
        (16, b"\x00\x00\x00\x01\x00\xff\x00\x02", [0, 1, 255, 2]),
    ],
)
def test_any_bits_a_pixel(tmp_path, bits, row, expected):
    """Pillow spreads 2 and 4 bits over 8, and a class must keep its value."""
    write(tmp_path, "a")
    Image.new("L", (4, 1)).save(tmp_path / "images" / "a.png")
    (tmp_path / "masks" / "a.png").write_bytes(grey_png(bits, [row], 4))
    assert mask_folder(tmp_path, (1, 4)).masks[0].tolist() == [expected]


def test_faults_are_one_line(tmp_path):
    for name in "abcd":
        write(tmp_path, name)
    masks, images = tmp_path / "masks", tmp_path / "images"
    Image.new("RGB", (6, 4)).save(masks / "a.png")
    assert "a.png is a mask of mode RGB, not paletted or grey;" in refused(tmp_path)
    Image.new("L", (6, 5)).save(masks / "b.png")
    (masks / "c.png").write_bytes(grey_png(16, [b"\x01\x2c"], 1))
    Image.new("L", (1, 1)).save(images / "c.png")
    (masks / "d.png").write_bytes(b"no picture")
    said = refused(tmp_path)
    for words in (
        f"4 files in {tmp_path} cannot be used",
        "masks/b.png is a mask of 6x5 pixels, and its image has 6x4",
        "masks/c.png is a mask with the value 300",
        "masks/d.png cannot be read as an image (it is none of PNG)",
    ):
        assert words in said
    (images / "d.png").write_bytes(b"")
    assert "images/d.png cannot be read as an image (it is empty)" in refused(tmp_path)


def test_pairs(tmp_path):
    (tmp_path / "images").mkdir()
    assert "it has no masks" in refused(tmp_path)
    (tmp_path / "masks").mkdir()
    assert f"no images in {tmp_path / 'images'}" in refused(tmp_path)
    assert "which is not there" in refused(tmp_path / "nowhere")
    for name in "abc":
        write(tmp_path, name)
    (tmp_path / "masks" / "a.png").unlink()
    (tmp_path / "images" / "b.png").unlink()
    write(tmp_path, "c", suffix=".bmp")
    Image.new("L", (6, 4)).save(tmp_path / "masks" / "a.jpg")
    Image.new("L", (6, 4)).save(tmp_path / "images" / "d.jpg")
    said = refused(tmp_path)
    for words in (
        "masks/b.png has no image of its name in images",
        "images/d.jpg has no mask of its name in masks",
        "images/c.png has the name of c.bmp, but for the suffix",
        "masks/a.jpg is a mask in no PNG file",
    ):
        assert words in said


@pytest.mark.parametrize("names", [None, "cat"])
def test_masks_of_no_class(tmp_path, names):
    """Masks of 0 and 255 are often meant as 0 and 1."""
    write(tmp_path, "a", [[0, 255], [0, 0]])
    if names is not None:
        (tmp_path / "classes.txt").write_text(names)
    assert "save objects as 1, 2, ..." in refused(tmp_path)


def test_turned_images(tmp_path):
    """The mask is of the image as it is shown."""
    write(tmp_path, "a")
    for suffix in (".jpg", ".tif"):
        for path in (tmp_path / "images").iterdir():
            path.unlink()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (4, 6)).save(tmp_path / "images" / f"a{suffix}", exif=exif)
        assert mask_folder(tmp_path, (2, 2)).masks[0].tolist() == VALUES.tolist()


def test_cache(tmp_path, monkeypatch):
    folder, cache = tmp_path / "data", tmp_path / "cache"
    for i in range(70):  # more than a block
        write(folder, f"{i:02}", [[0, i % 2 + 1]])
    fresh = mask_folder(folder, SIZE)
    kept = mask_folder(folder, SIZE, cache=cache)
    monkeypatch.setattr(module, "read_mask", None)
    mapped = mask_folder(folder, SIZE, cache=cache, mapped=True)
    for store in (kept, mapped):
        assert np.array_equal(store.images, fresh.images)
        assert np.array_equal(store.masks, fresh.masks)
    assert isinstance(mapped.images, np.memmap) and isinstance(mapped.masks, np.memmap)
    assert not isinstance(kept.masks, np.memmap)
    monkeypatch.undo()
    write(folder, "00", [[2, 0]])
    again = mask_folder(folder, SIZE, cache=cache, mapped=True)
    assert again.masks[0, 0].tolist() == [2, 2, 2, 0, 0, 0]
    assert "needs cache=DIR" in refused(folder, mapped=True)


def test_nothing_is_kept_of_a_folder_with_faults(tmp_path):
    folder, cache = tmp_path / "data", tmp_path / "cache"
    for i in range(30):
        write(folder, f"{i:02}")
        (folder / "masks" / f"{i:02}.png").write_bytes(b"damaged")
    said = refused(folder, SIZE, cache=cache)
    listed = cache / "data-unreadable.csv"
    assert said.count("cannot be read") == 1 and f"all listed in {listed}" in said
    assert len(listed.read_text().splitlines()) == 31
    assert len(list(cache.glob("*.npy"))) == 1, "the images, which are whole"
