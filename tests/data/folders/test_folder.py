"""Folders of images: every layout, every mode of pixels, every mistake."""

import os
import struct
import warnings
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.data import image_episodes, image_folder
from metajax.data.folders.folder import LARGEST_SIDE
from metajax.data.pictures import decoding
from tests.helpers import write_image

SIZE = (4, 6)


def fill(folder, *files):
    """Writes an image of its own brightness to each file, and returns the folder."""
    for i, file in enumerate(files):
        write_image(folder / file, 10 * i + 10)
    return folder


def brightness(store):
    """The top left byte of each image stored, by class."""
    return {
        name: images[:count, 0, 0, 0].tolist() for images, count, name in zip(*store)
    }


def refused(*args, **settings):
    """The one line of the error."""
    with pytest.raises(mj.InputError) as caught:
        image_folder(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_a_class(tmp_path):
    fill(tmp_path, "b/2.png", "b/1.bmp", "a/x.gif", "b/3.TIF", "c/n/1.png", "c/0.PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / "._x.png").write_text("what another system leaves behind")
    (tmp_path / ".git").mkdir()
    fill(tmp_path / ".git", "x.png")
    with pytest.warns(UserWarning) as said:
        store = image_folder(tmp_path, SIZE)
    assert "several depths (a, c/n)" in str(said[0].message)
    assert f"1 other file is passed over in {tmp_path}: 1 .txt" == str(said[1].message)
    assert store.images.shape == (4, 3, *SIZE, 3) and store.images.dtype == np.uint8
    assert brightness(store) == {"a": [30], "b": [20, 10, 40], "c": [60], "c/n": [50]}
    assert store.counts.tolist() == [1, 3, 1, 1] and store.counts.dtype == np.int32
    assert not store.images[0, 1:].any(), "padded with zeros"


def test_every_format_by_its_suffix(tmp_path):
    names = [f"a/x.{e}" for e in ("png", "jpg", "jpeg", "bmp", "gif", "webp", "tif")]
    fill(tmp_path, *names)
    found = brightness(image_folder(tmp_path, SIZE))["a"]
    written = [10 * names.index(name) + 10 for name in sorted(names)]
    np.testing.assert_allclose(found, written, atol=2)  # JPEG and WebP lose a little


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_a_folder_a_split(tmp_path, validation):
    fill(tmp_path, "train/a/1.png", f"{validation}/b/1.png", "test/deep/c/1.png")
    for split, name in (("train", "a"), ("validation", "b"), ("test", "deep/c")):
        assert image_folder(tmp_path, SIZE, split=split).names == (name,)


@pytest.mark.parametrize("root", ["images/", ""])
def test_a_table_a_split(tmp_path, root):
    fill(tmp_path, *(f"{root}{n}.jpg" for n in "dcba"))
    table = "\ufefflabel,filename\r\ny,c.jpg\r\nx,d.jpg\r\n\r\ny,a.jpg\r\n"
    (tmp_path / "val.csv").write_text(table, encoding="utf-8")
    (tmp_path / "test.csv").write_text("filename,label\nb.jpg,z\n")
    assert brightness(image_folder(tmp_path, SIZE, split="validation")) == {
        "x": [10],
        "y": [40, 20],
    }
    assert image_folder(tmp_path, SIZE, split="test").names == ("z",)


@pytest.mark.parametrize("root", ["images/", ""])
def test_one_table_for_the_whole(tmp_path, root):
    fill(tmp_path, *(f"{root}{n}.jpg" for n in "dcba"))
    table = tmp_path / "labels.csv"
    table.write_text(
        "filename, label, more\nc.jpg, y, 1\nd.jpg, x, 2, 3\na.jpg, y, 4\n"
    )
    for path in (table, str(table), tmp_path):
        with (
            pytest.warns(UserWarning, match="1 image is in .* and in no line of"),
            pytest.warns(UserWarning, match="1 row .* beyond the last column, more"),
        ):
            assert brightness(image_folder(path, SIZE)) == {"x": [10], "y": [40, 20]}
    assert "no column of it says the split" in refused(table, SIZE, split="test")
    assert f"no test split in {tmp_path}" in refused(tmp_path, SIZE, split="test")


def test_a_table_says_which_folder_of_two(tmp_path):
    fill(tmp_path, "images/a.png", "images/b.png", "a.png", "c.png")
    (tmp_path / "of.csv").write_text(
        "filename,label\na.png,x\nimages/b.png,x\nc.png,y\n"
    )
    assert brightness(image_folder(tmp_path / "of.csv", SIZE)) == {
        "x": [10, 20],
        "y": [40],
    }


def test_a_table_beside_classes_is_passed_over(tmp_path):
    fill(tmp_path, "a/1.png", "images/b/1.png")
    (tmp_path / "notes.csv").write_text("file,remark\n1.png,blurred\n")
    with pytest.warns(UserWarning) as said:
        assert image_folder(tmp_path, SIZE).names == ("a", "images/b")
    assert "are its folders; not read: notes.csv" in str(said[0].message)


def test_two_tables_are_not_mixed(tmp_path):
    fill(tmp_path, "1.png")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("filename,label\n1.png,x\n")
    assert "has several tables (a.csv, b.csv)" in refused(tmp_path, SIZE)
    assert image_folder(tmp_path / "b.csv", SIZE).names == ("x",)
    (tmp_path / "b.csv").rename(tmp_path / "._b.csv")  # as macOS leaves them
    assert image_folder(tmp_path, SIZE).names == ("x",)


def test_a_table_is_kept_by_what_it_says(tmp_path, decoded):
    fill(tmp_path / "set", "1.png", "2.png")
    table, cache = tmp_path / "set" / "labels.csv", tmp_path / "cache"
    for labels in ("xx", "xy", "xx"):
        lines = [f"{i}.png,{label}" for i, label in enumerate(labels, 1)]
        table.write_text("\n".join(["filename,label", *lines]))
        kept = image_folder(table, SIZE, cache=cache)
        assert brightness(kept) == brightness(image_folder(table, SIZE))
    assert len(decoded) == 6 + 4, "the third is read"


def test_tables_of_splits_in_a_folder_of_their_own(tmp_path):
    """CUB as FEAT has it: names apart by a comma and a space, and attributes after."""
    fill(tmp_path, *(f"images/{n}.jpg" for n in "cba"))
    (tmp_path / "split").mkdir()
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        table = f"filename, label, concept_label\n{name}.jpg,00{name}.Bird,6,12\n"
        (tmp_path / "split" / f"{split}.csv").write_text(table)
    for split, name in (("train", "a"), ("validation", "b"), ("test", "c")):
        with pytest.warns(UserWarning, match="the last column, concept_label, is not"):
            store = image_folder(tmp_path, SIZE, split=split)
        assert store.names == (f"00{name}.Bird",)
    assert "is split (split/train.csv, split/val.csv" in refused(tmp_path, SIZE)


@pytest.mark.parametrize(
    "files, split, names",
    [
        (
            ["images/001.Auk/1.jpg", "images/002.Jay/1.jpg"],
            None,
            ["001.Auk", "002.Jay"],
        ),
        (["train/001.Auk/1.jpg", "val/002.Jay/1.jpg"], "validation", ["002.Jay"]),
        (["train/n01530575/n01_1.JPEG", "test/n2/1.JPEG"], "train", ["n01530575"]),
    ],
    ids=["CUB whole", "CUB split", "tieredImageNet"],
)
def test_the_usual_folders(tmp_path, files, split, names):
    fill(tmp_path / "set", *files)
    for text in ("classes.txt", "images.txt", "attributes/attributes.txt"):
        (tmp_path / "set" / text).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / text).write_text("1 of it\n")
    path = tmp_path / "set" / ("images" if split is None else "")
    assert image_folder(path, SIZE, split=split).names == tuple(names)


def test_links_to_classes_and_in_circles(tmp_path):
    elsewhere = fill(tmp_path / "elsewhere", "1.png")
    write_image((folder := tmp_path / "folder") / "a/1.png", 99)
    (folder / "b").symlink_to(elsewhere)
    (folder / "a" / "up").symlink_to(folder)
    with pytest.warns(UserWarning, match="to folders that are read already: a/up"):
        assert image_folder(folder, SIZE).names == ("a", "b")


def test_resized_as_pillow_does(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    (found,) = image_folder(tmp_path, (5, 7)).images[0]
    expected = Image.fromarray(pixels).resize((7, 5), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(found, np.asarray(expected))
    np.testing.assert_array_equal(image_folder(tmp_path, (12, 20)).images[0, 0], pixels)


GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def palette():
    image = Image.fromarray(GREY % 4).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]])
    return image, colours[GREY % 4]


def clear():
    image = np.zeros((4, 6, 4), np.uint8)
    image[:2] = [0, 0, 200, 255]
    expected = np.full((4, 6, 3), 255)
    expected[:2] = [0, 0, 200]
    return Image.fromarray(image, "RGBA"), expected


def faded():
    image = Image.fromarray(GREY).convert("LA")
    image.putalpha(Image.fromarray((255 * (GREY > 99)).astype(np.uint8)))
    return image, as_rgb(np.where(GREY > 99, GREY, 255))


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


MODES = {
    "L": lambda: (Image.fromarray(GREY), as_rgb(GREY)),
    "1": lambda: (Image.fromarray(GREY > 99), as_rgb(255 * (GREY > 99))),
    "I;16": lambda: (Image.fromarray(GREY.astype(np.uint16) * 257), as_rgb(GREY)),
    "P": palette,
    "RGBA": clear,
    "LA": faded,
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pixels(tmp_path, mode):
    image, expected = MODES[mode]()
    assert image.mode == mode
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "x.png")
    np.testing.assert_array_equal(image_folder(tmp_path, (4, 6)).images[0, 0], expected)


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(tmp_path / "a" / f"x.{suffix}")
    found = image_folder(tmp_path, SIZE).images[0, 0, 0, 0]
    np.testing.assert_allclose(found, [255, 0, 0], atol=2)  # JPEG loses a little


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_in_either_order(tmp_path, mode):
    wide = (GREY.astype(np.uint16) * 257).astype({"I;16": "<u2", "I;16B": ">u2"}[mode])
    image = Image.frombytes(mode, GREY.shape[::-1], wide.tobytes())
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "x.tif")
    with Image.open(tmp_path / "a" / "x.tif") as kept:
        assert kept.mode == mode
    found = image_folder(tmp_path, SIZE, color=False).images[0, 0, :, :, 0]
    np.testing.assert_array_equal(found, GREY)


def test_sixteen_bits_of_each_colour(tmp_path):
    """A PNG by hand: Pillow writes none of 16 bits in three channels."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (*SIZE, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 0)

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + checksum.to_bytes(4)

    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows))
    (tmp_path / "a").mkdir()
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")
    (tmp_path / "a" / "x.png").write_bytes(whole)
    found = image_folder(tmp_path, SIZE).images[0, 0]
    np.testing.assert_array_equal(found, pixels >> 8)


def test_one_pixel(tmp_path):
    write_image(tmp_path / "a" / "x.png", (10, 20, 30), (1, 1))
    images = image_folder(tmp_path, SIZE).images
    np.testing.assert_array_equal(images, np.broadcast_to([10, 20, 30], images.shape))
    write_image(tmp_path / "a" / "x.png", (10, 20, 30), (300, 200))
    assert image_folder(tmp_path, (1, 1)).images.ravel().tolist() == [10, 20, 30]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_picture_of_several(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    first, *more = (Image.new("RGB", (6, 4), (v,) * 3) for v in (40, 90, 200))
    settings = dict(lossless=True) if suffix == "webp" else {}
    first.save(
        tmp_path / "a" / f"x.{suffix}", save_all=True, append_images=more, **settings
    )
    with Image.open(tmp_path / "a" / f"x.{suffix}") as kept:
        assert kept.n_frames == 3
    with pytest.warns(UserWarning, match=f"the first is read: a/x.{suffix}"):
        assert set(image_folder(tmp_path, SIZE).images.ravel()) == {40}


def test_grey(tmp_path):
    write_image(tmp_path / "a" / "x.png", (0, 255, 0))
    images = image_folder(tmp_path, SIZE, color=False).images
    assert images.shape == (1, 1, *SIZE, 1) and set(images.ravel()) == {150}


UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda x: np.rot90(x, -1),  # to be turned clockwise by a quarter
    7: lambda x: np.rot90(np.transpose(x), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_upright_as_the_camera_was_held(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").mkdir()
    Image.fromarray(GREY).save(tmp_path / "a" / f"x.{suffix}", exif=exif)
    expected = UPRIGHT[orientation](GREY)
    found = image_folder(tmp_path, expected.shape, color=False).images[0, 0, :, :, 0]
    np.testing.assert_array_equal(found, expected)


def test_feeds_episodes(tmp_path):
    fill(tmp_path, *(f"{name}/{i}.png" for name in "abc" for i in range(3)))
    store = image_folder(tmp_path, SIZE)
    episodes = image_episodes(store, ways=3, shots=1, queries=2)(jax.random.key(0), 2)
    assert episodes.query.inputs.shape == (2, 6, *SIZE, 3)
    write_image(tmp_path / "d/0.png", 99)
    with pytest.raises(mj.InputError, match=r"images a class, 1 \(of d\)"):
        image_episodes(image_folder(tmp_path, SIZE), ways=3, shots=1, queries=2)


def test_no_folder(tmp_path):
    assert "which is not there" in refused(tmp_path / "nowhere")
    (tmp_path / "set.zip").write_text("")
    assert "is a file, not a folder: archives are not read; unpack" in refused(
        tmp_path / "set.zip"
    )


def test_no_images(tmp_path):
    message = refused(tmp_path)
    assert f"no folders of images in {tmp_path}" in message
    assert message.endswith("found nothing")
    fill(tmp_path, *(f"{i}.png" for i in range(3)))
    assert refused(tmp_path).endswith("found 3 images in no class")


def test_no_such_split(tmp_path):
    fill(tmp_path, *(f"{name}/1.png" for name in "abcdefg"))
    message = refused(tmp_path, split="validation")
    assert f"no validation split in {tmp_path}" in message
    for layout in ("validation/CLASS/*", "validation.csv", "val/CLASS/*", "val.csv"):
        assert layout in message
    assert message.endswith("got a/, b/, c/, d/, e/, and 2 more")
    assert "split must be None or one of train," in refused(tmp_path, split="val")


def test_splits_are_not_mixed(tmp_path):
    fill(tmp_path, "train/a/1.png", "val/b/1.png")
    assert "is split (train, val): pass one of them" in refused(tmp_path)
    (tmp_path / "train.csv").write_text("filename,label\n")
    assert "is split (train.csv, train, val)" in refused(tmp_path)
    # "train" may also be a class, of vehicles.
    vehicles = fill(
        tmp_path / "vehicles", "train/1.png", "train/old/1.png", "car/1.png"
    )
    with pytest.warns(UserWarning, match="at several depths"):
        assert image_folder(vehicles, SIZE).names == ("car", "train", "train/old")


@pytest.mark.parametrize(
    "table, message",
    [
        (b"photos,breed\na.png,x\n", "none for files and labels, got photos, breed"),
        (b"", "must have the columns filename and label, .* got none"),
        (b"filename,label\n", "names no images"),
        (b"filename,label\na.png,x\n\nno.png,x\n", "line 4 of .* names no.png, which"),
        (b"filename,label\na.png,x\na.png,y\n", "line 3 of .* names a.png again"),
        (b"filename,label\na.png\n", "line 2 of .* must have a filename and a label"),
        (b"filename,label\n\xff\xfe,x\n", "not a table of UTF-8 or UTF-16 text"),
        (b"filename,label\n../train.csv,x\n", "names ../train.csv, which is not in"),
        (b"filename,label\n/etc/hosts,x\n", "names /etc/hosts, which is not in"),
        (b"filename,label\n" + 999 * b"a" + b",x\n", "aaa, which is not in"),
    ],
)
def test_a_table_with_a_mistake(tmp_path, table, message):
    fill(tmp_path / "images", "a.png")
    (tmp_path / "train.csv").write_bytes(table)
    with pytest.raises(mj.InputError, match=message):
        image_folder(tmp_path, split="train")


def cut(path):
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


HARMS = {
    "text": lambda path: path.write_text("<html>not found</html>"),
    "empty": lambda path: path.write_bytes(b""),
    "cut short": cut,
    "floats": lambda path: Image.new("F", (4, 4)).save(path, "TIFF"),
    "a broken link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kept", [False, True])
def test_an_image_that_cannot_be_read(tmp_path, harm, kept):
    folder = fill(tmp_path / "set", "a/1.png", "a/2.png", "b/1.png")
    HARMS[harm](folder / "a" / "2.png")
    message = refused(folder, SIZE, cache=tmp_path / "cache" if kept else None)
    assert str(folder / "a" / "2.png") in message
    assert "cannot be read as an image" in message and "delete it or mend it" in message
    assert not (tmp_path / "cache").exists(), "nothing is written"


@pytest.mark.parametrize("limit", [20, 10])  # Pillow warns from one, raises from two
def test_an_image_of_too_many_pixels(tmp_path, monkeypatch, limit):
    fill(tmp_path, "a/1.png")
    monkeypatch.setattr(decoding.Image, "MAX_IMAGE_PIXELS", limit)
    assert "1.png has too many pixels" in refused(tmp_path)


def test_too_many_pixels_whatever_is_said_of_warnings(tmp_path, monkeypatch):
    write_image(path := tmp_path / "1.png", 9, size=(5, 3))
    monkeypatch.setattr(decoding.Image, "MAX_IMAGE_PIXELS", 14)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(mj.InputError, match="too many pixels .5 x 3, of 14 at"):
            decoding.decode(path, (4, 4), "L")
    monkeypatch.setattr(decoding.Image, "MAX_IMAGE_PIXELS", None)
    assert decoding.decode(path, (4, 4), "L").shape == (4, 4, 1)


def test_the_largest_image_made_may_be_read():
    most = Image.MAX_IMAGE_PIXELS
    assert LARGEST_SIDE**2 <= most < (LARGEST_SIDE + 1) ** 2


def test_bad_size(tmp_path):
    assert "height must be a whole number of at least 1" in refused(tmp_path, (0, 4))


def test_what_does_not_fit_in_memory(tmp_path):
    files = [tmp_path / "1.png"] * 10**6
    with pytest.raises(mj.InputError, match="choose a smaller size"):
        decoding.decode_classes([files], (LARGEST_SIDE, LARGEST_SIDE), "RGB")


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded, as they are."""
    names, true = [], decoding.decode

    def spy(path, *settings):
        names.append(path.name)
        return true(path, *settings)

    monkeypatch.setattr(decoding, "decode", spy)
    return names


def test_decoded_images_are_kept(tmp_path, decoded):
    folder = fill(tmp_path / "set", "a/1.png", "a/2.png", "b/1.png")
    cache = tmp_path / "deep" / "cache"
    plain, first, again = (
        image_folder(folder, SIZE, cache=place) for place in (None, cache, cache)
    )
    assert len(decoded) == 6, "the third is read"
    (kept,) = cache.glob("*.npy")
    for store in (first, again):
        np.testing.assert_array_equal(store.images, plain.images)
        np.testing.assert_array_equal(store.counts, plain.counts)
        assert store.names == plain.names


CHANGES = {
    "another time": lambda folder: os.utime(folder / "a/1.png", ns=(0, 0)),
    "one more": lambda folder: write_image(folder / "a/3.png", 9),
    "one less": lambda folder: (folder / "a/2.png").unlink(),
    "another name": lambda folder: (folder / "a/2.png").rename(folder / "a/4.png"),
    "another class": lambda folder: (folder / "a").rename(folder / "c"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_decoded_again(tmp_path, decoded, change):
    folder = fill(tmp_path / "set", "a/1.png", "a/2.png", "b/1.png")
    image_folder(folder, SIZE, cache=tmp_path / "cache")
    CHANGES[change](folder)
    decoded.clear()
    kept = image_folder(folder, SIZE, cache=tmp_path / "cache")
    assert decoded
    assert brightness(kept) == brightness(image_folder(folder, SIZE))


def test_each_size_and_colour_is_kept_apart(tmp_path):
    folder = fill(tmp_path / "set", "a/1.png")
    for settings in (dict(size=(4, 6)), dict(size=(6, 4)), dict(color=False)):
        kept = image_folder(folder, cache=tmp_path / "cache", **settings)
        plain = image_folder(folder, **settings)
        np.testing.assert_array_equal(kept.images, plain.images)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3


@pytest.mark.parametrize("end", [0, 50, -3])
def test_kept_images_that_are_damaged_are_decoded_again(tmp_path, decoded, end):
    folder, cache = fill(tmp_path / "set", "a/1.png"), tmp_path / "cache"
    first = image_folder(folder, SIZE, cache=cache)
    (kept,) = cache.glob("*.npy")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:end])
    decoded.clear()
    again = image_folder(folder, SIZE, cache=cache)
    assert decoded == ["1.png"] and kept.read_bytes() == whole
    np.testing.assert_array_equal(first.images, again.images)


def test_mapped_images_stay_in_their_file(tmp_path, decoded):
    folder = fill(tmp_path / "set", "a/1.png", "a/2.png", "b/1.png")
    cache = tmp_path / "cache"
    first, again, loaded = (
        image_folder(folder, SIZE, cache=cache, mapped=mapped)
        for mapped in (True, True, False)
    )
    assert len(decoded) == 3, "once, in whichever way"
    plain = image_folder(folder, SIZE)
    for store in (first, again, loaded):
        np.testing.assert_array_equal(store.images, plain.images)
    assert isinstance(first.images, np.memmap) and isinstance(again.images, np.memmap)
    assert not isinstance(loaded.images, np.memmap)
    (kept,) = cache.glob("*.npy")
    assert kept == first.images.filename
    assert "needs cache=DIR" in refused(folder, SIZE, mapped=True)


def test_mapped_images_are_kept_wholly_or_not_at_all(tmp_path, small_disk):
    folder, cache = fill(tmp_path / "set", "a/1.png", "b/1.png"), tmp_path / "cache"
    HARMS["text"](folder / "b" / "1.png")
    assert "cannot be read as an image" in refused(
        folder, SIZE, cache=cache, mapped=True
    )
    assert not list(cache.iterdir())
    (folder / "b" / "1.png").unlink()
    (folder / "b").rmdir()
    disk = small_disk(8)
    large = dict(size=(84, 84), cache=disk, mapped=True)
    assert "choose another folder" in refused(folder, **large)
    assert not list(disk.iterdir())


def test_nowhere_to_keep(tmp_path, small_disk):
    folder = fill(tmp_path / "set", "a/1.png")
    (tmp_path / "file").write_text("")
    assert "choose another folder" in refused(folder, cache=tmp_path / "file")
    disk = small_disk(8)
    assert "choose another folder" in refused(folder, cache=disk)
    assert not list(disk.iterdir()), "nothing is left"
