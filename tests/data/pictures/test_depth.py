"""Images of 16 bits a number: the depth that a file, or its folder, has."""

import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import metajax as mj
from metajax.data import image_folder
from metajax.data.folders import folder
from metajax.data.folders.survey import survey
from metajax.data.pictures.decoding import decode
from metajax.data.pictures.depth import Range, fewest_bits
from tests.helpers import write_image

SHAPE = 4, 6
GREY = np.arange(24, dtype=np.uint16).reshape(SHAPE) * 11  # of 8 bits, to 253
FULL = GREY + 2  # to 255
DEFLATE = 8
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by PNG's type of colour


def chunk(kind, content):
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(path, values, kind, *extra):
    """A PNG of 16 bits by hand: Pillow writes none of several channels."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    size = struct.pack(">II", values.shape[1], values.shape[0])
    chunks = [chunk(b"IHDR", size + bytes([16, kind, 0, 0, 0]))]
    chunks += [chunk(*each) for each in extra]
    chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def tiff(path, values, order="<", photometric=None, **tags):
    """A TIFF of 16 bits by hand, in one strip."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    pixels = values.astype(order + "u2").tobytes()
    pixels = zlib.compress(pixels) if tags.get("_259") == DEFLATE else pixels
    entries = {256: width, 257: height, 258: [16] * channels, 259: 1}
    entries |= {262: (2 if channels > 2 else 1) if photometric is None else photometric}
    entries |= {277: channels, 278: height, 279: len(pixels)}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    entries[273] = 0
    after = 8 + 2 + 12 * len(entries) + 4
    far = b""
    table = b""
    places = {}
    for tag in sorted(entries):
        numbers = entries[tag] if isinstance(entries[tag], list) else [entries[tag]]
        kind, form = (4, "I") if tag in (273, 279) else (3, "H")
        content = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(content) > 4:
            far, content = far + content, struct.pack(order + "I", after + len(far))
        places[tag] = len(table) + 8
        table += struct.pack(order + "HHI", tag, kind, len(numbers))
        table += content.ljust(4, b"\0")
    start = struct.pack(order + "I", after + len(far))
    table = table[: places[273]] + start + table[places[273] + 4 :]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    count = struct.pack(order + "H", len(entries))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + count + table + bytes(4) + far + pixels)


def deep(values, bits):
    """Numbers of so many bits that are these of 8, with something below them."""
    return (values.astype(np.uint16) << (bits - 8)) | (values & (2 ** (bits - 8) - 1))


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


COLOUR = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3))
WRITERS = {
    "grey PNG": lambda path, bits: png(path, deep(GREY, bits), 0),
    "colour PNG": lambda path, bits: png(path, deep(COLOUR, bits), 2),
    "little TIFF": lambda path, bits: tiff(path, deep(GREY, bits)),
    "big TIFF": lambda path, bits: tiff(path, deep(GREY, bits), ">"),
    "colour TIFF": lambda path, bits: tiff(path, deep(COLOUR, bits)),
    "big colour TIFF": lambda path, bits: tiff(path, deep(COLOUR, bits), ">"),
    "packed colour TIFF": lambda path, bits: tiff(
        path, deep(COLOUR, bits), _259=DEFLATE
    ),
    "big packed colour TIFF": lambda path, bits: tiff(
        path, deep(COLOUR, bits), ">", _259=DEFLATE
    ),
    "big packed grey": lambda path, bits: tiff(
        path, deep(GREY, bits), ">", _259=DEFLATE
    ),
}


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("form", WRITERS)
def test_fewer_bits_than_a_file_has_room_for(tmp_path, form, bits):
    suffix = "png" if "PNG" in form else "tif"
    WRITERS[form](tmp_path / f"x.{suffix}", bits)
    expected = COLOUR if "colour" in form else as_rgb(GREY)
    found = decode(tmp_path / f"x.{suffix}", SHAPE, "RGB")
    np.testing.assert_array_equal(found, expected)


def test_images_of_one_folder_have_one_depth(tmp_path):
    png(tmp_path / "a" / "bright.png", deep(GREY, 12), 0)
    png(tmp_path / "a" / "dim.png", deep(GREY // 8, 12), 0)
    said = f"2 16-bit images are read as 12-bit in {tmp_path}: the depth of the whole"
    with pytest.warns(UserWarning, match=said):
        bright, dim = image_folder(tmp_path, SHAPE, color=False).images[0, ..., 0]
    np.testing.assert_array_equal(bright, GREY)
    np.testing.assert_array_equal(dim, GREY // 8)


@pytest.mark.parametrize("most", [255, 1023, 4095])
def test_a_frame_at_the_end_of_another_range_is_as_bright_as_others(tmp_path, most):
    """Its largest number is by chance the largest of fewer bits."""
    for name, brightest in {"chance": most, "near": most - 1, "bright": 16383}.items():
        values = np.full(SHAPE, 200)
        values[0, 0] = brightest
        png(tmp_path / "a" / f"{name}.png", values, 0)
    with pytest.warns(UserWarning, match="3 16-bit images are read as 14-bit") as said:
        images = image_folder(tmp_path, SHAPE, color=False).images[0, ..., 0]
    assert len(said) == 1
    np.testing.assert_array_equal(images[:, 1:], 200 >> 6)


def split_by(form, folder, brightest):
    """Splits of a picture each, of two numbers: 400, and a largest one."""
    for split, most in brightest.items():
        values = np.full(SHAPE, 400)
        values[0, 0] = most
        if form == "folders":
            png(folder / split / f"of {split}" / "x.png", values, 0)
        else:
            png(folder / "images" / f"{split}.png", values, 0)
            line = f"filename,label\n{split}.png,of {split}\n"
            (folder / f"{split}.csv").write_text(line)


@pytest.mark.parametrize("form", ["folders", "tables"])
@pytest.mark.parametrize("kept", [False, True])
def test_all_splits_have_one_depth(tmp_path, form, kept):
    brightest = {"train": 4000, "val": 1023, "test": 1000}
    split_by(form, tmp_path / "set", brightest)
    cache = tmp_path / "cache" if kept else None
    for split in ("test", "train", "validation"):
        with pytest.warns(UserWarning, match="read as 12-bit in .*whole folder.*4000"):
            store = image_folder(tmp_path / "set", SHAPE, split=split, cache=cache)
        np.testing.assert_array_equal(store.images[0, 0, 1:], 400 >> 4)


def test_a_brighter_split_is_seen_by_those_that_are_kept(tmp_path):
    split_by("folders", tmp_path / "set", {"train": 900, "test": 1000})
    for most, expected in ((1000, 100), (4000, 25), (65000, 1), (1000, 100)):
        split_by("folders", tmp_path / "set", {"test": most})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = image_folder(
                tmp_path / "set", SHAPE, split="train", cache=tmp_path / "cache"
            )
        np.testing.assert_array_equal(store.images[0, 0, 1:], expected)


def test_a_folder_is_surveyed_once_and_again_if_what_was_seen_is_damaged(
    tmp_path, monkeypatch
):
    split_by("folders", tmp_path / "set", {"train": 4000, "test": 1000})
    seen = []
    monkeypatch.setattr(folder, "survey", lambda *of: seen.append(of) or survey(*of))

    def read(split):
        with pytest.warns(UserWarning, match="2 16-bit images are read as 12-bit"):
            image_folder(tmp_path / "set", SHAPE, split=split, cache=tmp_path / "cache")

    read("train"), read("test"), read("test")
    assert len(seen) == 1
    (kept,) = (tmp_path / "cache").glob("*.json")
    for damage in (b"", b"[3, []]", b"[12, 1]", b"[[], []]", b"{}"):
        kept.write_bytes(damage)
        seen.clear()
        read("test"), read("train")
        assert len(seen) == 1, damage


def test_pictures_of_no_split_do_not_count(tmp_path):
    split_by("folders", tmp_path, {"train": 1000, "test": 900, "raw": 65000})
    png(tmp_path / "test" / "loose.png", np.full(SHAPE, 65000), 0)
    with pytest.warns(UserWarning) as said:
        store = image_folder(tmp_path, SHAPE, split="train")
    assert any("2 16-bit images are read as 10-bit" in str(w.message) for w in said)
    np.testing.assert_array_equal(store.images[0, 0, 1:], 100)


def test_what_is_said_of_depths_is_kept_with_the_images(tmp_path):
    png(tmp_path / "set" / "a" / "x.png", deep(GREY, 12), 0)
    for mapped in (False, False, True):
        with pytest.warns(UserWarning, match="is read as 12-bit") as said:
            image_folder(
                tmp_path / "set", SHAPE, cache=tmp_path / "cache", mapped=mapped
            )
        assert len(said) == 1
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [
        ".json",
        ".npy",
    ]


@pytest.mark.parametrize(
    "bits, values, expected",
    [
        (12, deep(GREY // 4, 12), GREY // 4),  # not scaled up, as they should be
        (12, deep(GREY, 12) << 4, GREY),  # scaled up
        (12, deep(GREY // 32, 12) << 4, GREY // 32),  # scaled up, and dark
        (16, deep(GREY // 32, 16), GREY // 32),
    ],
)
def test_a_png_that_says_its_depth(tmp_path, bits, values, expected):
    png(tmp_path / "x.png", values, 0, (b"sBIT", bytes([bits])))
    found = decode(tmp_path / "x.png", SHAPE, "L")[..., 0]
    np.testing.assert_array_equal(found, expected)
    assert survey(tmp_path, [tmp_path / "x.png"]) == (None, ())


@pytest.mark.parametrize("tag", ["_281"])
def test_a_tiff_that_says_its_depth(tmp_path, tag):
    tiff(tmp_path / "a.tif", deep(GREY // 8, 12), **{tag: 4095})
    tiff(tmp_path / "b.tif", deep(GREY // 8, 16), **{tag: 65535})
    tiff(tmp_path / "c.tif", deep(GREY, 12), **{tag: 1000})  # a statistic, and wrong
    for name, expected in (("a", GREY // 8), ("b", GREY // 8), ("c", GREY)):
        found = decode(tmp_path / f"{name}.tif", SHAPE, "L")[..., 0]
        np.testing.assert_array_equal(found, expected)


def test_zero_is_white(tmp_path):
    for bits in (12, 16):
        tiff(tmp_path / "x.tif", deep(FULL, bits), photometric=0)
        found = decode(tmp_path / "x.tif", SHAPE, "L")[..., 0]
        np.testing.assert_array_equal(found, 255 - FULL)


@pytest.mark.parametrize("most", [4095, 65535])
def test_transparency_of_sixteen_bits(tmp_path, most):
    """It may have all bits where the colours have few."""
    alpha = np.where(GREY > 99, most, 0)[..., None]
    expected = np.where(GREY > 99, GREY, 255)
    grey = deep(GREY, 12)[..., None]
    png(tmp_path / "la.png", np.concatenate([grey, alpha], -1), 4)
    rgba = np.concatenate([grey, grey, grey, alpha], -1)
    png(tmp_path / "rgba.png", rgba, 6)
    tiff(tmp_path / "straight.tif", rgba, _338=2)
    tiff(tmp_path / "multiplied.tif", np.where(alpha, rgba, 0), _338=1)
    for path in tmp_path.iterdir():
        found = decode(path, SHAPE, "RGB")
        np.testing.assert_array_equal(found, as_rgb(expected), err_msg=path.name)


def test_colours_multiplied_by_their_transparency(tmp_path):
    values = np.full((*SHAPE, 4), 32768)
    tiff(tmp_path / "x.tif", values, _338=1)  # white, half transparent
    assert decode(tmp_path / "x.tif", SHAPE, "RGB").min() >= 254


@pytest.mark.parametrize("kind", [0, 2])
def test_a_transparent_colour_of_sixteen_bits(tmp_path, kind):
    values = deep(GREY, 12)[..., None].repeat(CHANNELS[kind], -1)
    clear = values[1, 1]
    png(tmp_path / "x.png", values, kind, (b"tRNS", clear.astype(">u2").tobytes()))
    expected = GREY.copy()
    expected[1, 1] = 255
    np.testing.assert_array_equal(
        decode(tmp_path / "x.png", SHAPE, "L")[..., 0], expected
    )


@pytest.mark.parametrize("write", ["grey PNG", "colour PNG", "colour TIFF"])
def test_upright(tmp_path, write):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x"
    if "PNG" in write:
        kind, values = (2, COLOUR) if "colour" in write else (0, GREY)
        plain = exif.tobytes().removeprefix(b"Exif\0\0")
        png(path, deep(values, 12), kind, (b"eXIf", plain))
    else:
        values = COLOUR
        tiff(path, deep(values, 12), _274=6)
    found = decode(path, SHAPE[::-1], "RGB")
    expected = values if values.ndim == 3 else as_rgb(values)
    np.testing.assert_array_equal(found, np.rot90(expected, -1))


REFUSED = {
    "32-bit": lambda: Image.fromarray(GREY.astype(np.int32) - 9),
    "floats": lambda: Image.fromarray(GREY.astype(np.float32) / 255),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_numbers_of_no_known_range_are_refused(tmp_path, kind):
    REFUSED[kind]().save(tmp_path / "x.tif")
    with pytest.raises(mj.InputError, match="no known range; save it in 8 or 16 bits"):
        decode(tmp_path / "x.tif", SHAPE, "L")


def test_signed_numbers_and_planes_are_refused(tmp_path):
    tiff(tmp_path / "signed.tif", GREY, _339=2)
    tiff(tmp_path / "planes.tif", COLOUR, _284=2)
    for name, why in (("signed", "no known range"), ("planes", "planes of 16 bits")):
        with pytest.raises(mj.InputError, match=why):
            decode(tmp_path / f"{name}.tif", SHAPE, "L")


def test_a_survey_leaves_what_cannot_be_read(tmp_path):
    write_image(tmp_path / "good.png", 9)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "gone.gif").symlink_to("nowhere")
    assert survey(tmp_path, sorted(tmp_path.iterdir())) == (None, ())
    assert survey(tmp_path, [], least=12).bits == 12


def test_several_images_of_sixteen_bits(tmp_path):
    first, second = (Image.fromarray(deep(x, 12)) for x in (GREY, FULL))
    (tmp_path / "a").mkdir()
    first.save(tmp_path / "a" / "x.tif", save_all=True, append_images=[second])
    with pytest.warns(UserWarning) as said:
        found = image_folder(tmp_path, SHAPE, color=False).images[0, 0, ..., 0]
    np.testing.assert_array_equal(found, GREY)
    assert "12-bit" in str(said[0].message) and "first is read" in str(said[1].message)


def test_the_bits_of_a_range():
    assert [fewest_bits(most) for most in (0, 255, 256, 4095, 4096, 65535)] == [
        *(8, 8, 10, 12, 14, 16)
    ]
    assert Range(None, 900).bits() == 10 and Range(None, 900).bits(12) == 12
    assert Range(None, 1023).bits(12) == 12 and Range(14, 1023).bits(12) == 14


def test_eight_bits_are_as_they_were(tmp_path):
    file = BytesIO()
    Image.fromarray(COLOUR.astype(np.uint8)).save(file, "PNG")
    (tmp_path / "x.png").write_bytes(file.getvalue())
    np.testing.assert_array_equal(decode(tmp_path / "x.png", SHAPE, "RGB"), COLOUR)
