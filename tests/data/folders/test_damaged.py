"""Many files that cannot be used: one error, of all splits."""

import csv
from typing import get_args

import numpy as np
import pytest

import metajax as mj
from metajax.data import image_folder
from metajax.data.folders.listing import Split
from metajax.data.pictures import decoding
from metajax.errors import FilesError
from tests.helpers import write_image

SIZE = (4, 4)


@pytest.fixture
def folder(tmp_path):
    """Splits of 3 classes of 12 pictures."""
    for s, split in enumerate(("train", "val", "test")):
        for c in range(3):
            for i in range(12):
                shade = 80 * s + 20 * c + i
                write_image(
                    tmp_path / "set" / split / f"{split}{c}" / f"{i}.png", shade
                )
    return tmp_path / "set"


def caught(folder, split="train", **settings):
    with pytest.raises(FilesError) as error:
        image_folder(folder, SIZE, split=split, **settings)
    assert isinstance(error.value, mj.InputError) and "\n" not in str(error.value)
    return error.value


@pytest.fixture(params=["plain", "kept", "mapped"])
def settings(request, tmp_path):
    kept = {} if request.param == "plain" else {"cache": tmp_path / "cache"}
    return kept | ({"mapped": True} if request.param == "mapped" else {})


@pytest.mark.parametrize("split", get_args(Split))
def test_all_splits_are_in_one_error(folder, settings, split):
    empty = [folder / "train/train0/1.png", folder / "test/test2/0.png"]
    text = [folder / "val/val1/5.png", folder / "train/train2/11.png"]
    for path in empty:
        path.write_bytes(b"")
    for path in text:
        path.write_text("no image")
    error = caught(folder, split, **settings)
    assert {fault.place for fault in error.faults} == set(map(str, empty + text))
    said = str(error)
    assert said.startswith(f"4 files in {folder} cannot be used: ")
    assert "train/train0/1.png" in said and "test/test2/0.png" in said
    assert said.endswith("; delete it or mend it") and "(it is empty)" in said


def test_one_file_is_named_whole(folder):
    path = folder / "val/val1/5.png"
    path.write_bytes(path.read_bytes()[:40])
    said = str(caught(folder, "validation"))
    assert said.startswith(f"{path} cannot be read as an image (")
    assert image_folder(folder, SIZE, split="train").counts.tolist() == [12] * 3


def test_a_long_list_is_written_beside_what_is_kept(folder, tmp_path):
    for path in folder.glob("train/*/*.png"):
        path.write_bytes(b"")
    error = caught(folder, cache=tmp_path / "cache")
    (listed,) = (tmp_path / "cache").glob("*-unreadable.csv")
    rows = list(csv.reader(listed.read_text().splitlines()))
    assert rows[0] == ["file", "reason"] and len(rows) == 37
    assert {row[0] for row in rows[1:]} == {fault.place for fault in error.faults}
    said = str(error)
    assert said.count(".png") == 20 and f"and 16 more, all listed in {listed}" in said
    assert str(caught(folder)).count(".png") == 36, "all, where no file lists them"
    (tmp_path / "file").write_text("")
    assert str(caught(folder, cache=tmp_path / "file")).count(".png") == 36


def test_good_splits_are_decoded_once(folder, tmp_path, monkeypatch):
    names, true = [], decoding.decode
    monkeypatch.setattr(
        decoding, "decode", lambda path, *rest: names.append(path) or true(path, *rest)
    )
    (folder / "train/train0/1.png").write_bytes(b"")
    caught(folder, cache=tmp_path / "cache")
    assert len(names) == len(set(names)) == 108
    (folder / "train/train0/1.png").unlink()
    names.clear()
    for split in get_args(Split):
        image_folder(folder, SIZE, split=split, cache=tmp_path / "cache")
    assert len(names) == 35 and all("train" in path.parts for path in names)


def test_a_table_and_its_files_in_one_error(tmp_path, settings):
    for i in range(6):
        write_image(tmp_path / f"images/{i}.png", i)
    (tmp_path / "images/5.png").write_bytes(b"")
    good = [f"{i}.png,x" for i in range(3)]
    bad = ["no.png,x", "0.png,y", ",x", "1.png,", "gone.png,y"]
    (tmp_path / "train.csv").write_text("\n".join(["filename,label", *good, *bad]))
    (tmp_path / "val.csv").write_text("filename,label\n3.png,z\n5.png,z\nno.jpg,z\n")
    error = caught(tmp_path, **settings)
    assert len(error.faults) == 7
    said = str(error)
    assert said.startswith(f"7 files or lines of tables in {tmp_path} cannot be used: ")
    for part in (
        "line 5 of train.csv names no.png, which is not in",
        "line 6 of train.csv names 0.png again",
        "line 7 of train.csv, line 8 of train.csv must have a filename and a label",
        "line 9 of train.csv names gone.png",
        "line 4 of val.csv names no.jpg",
        "images/5.png cannot be read as an image (it is empty)",
    ):
        assert part in said, said
    other = caught(tmp_path, "validation", **settings)
    assert set(other.faults) == set(error.faults)


def test_other_splits_that_are_not_there_say_nothing(tmp_path):
    for i in range(2):
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "a" / f"{i}.png").write_bytes(b"")
    assert len(caught(tmp_path).faults) == 2


def test_support_of_labels_in_one_error(tmp_path):
    write_image(tmp_path / "0.png", 1)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    with pytest.raises(FilesError, match="2 files in .* 1.png, 2.png cannot be read"):
        decoding.decode_classes([paths[:2], paths[2:]], SIZE, "L")
    assert decoding.decode_classes([paths[:1]], SIZE, "L").dtype == np.uint8
