"""What is said of a folder of images: what is passed over, and what is odd."""

import os
import shutil
import warnings

import pytest

import metajax as mj
from metajax.data import image_folder
from metajax.data.folders._copies import END, copies
from metajax.data.folders.listing import has_split, list_images, list_loose
from tests.helpers import write_image

SIZE = (4, 6)


def fill(folder, *files):
    """Writes an image of its own brightness to each file, and returns the folder."""
    for i, file in enumerate(files):
        write_image(folder / file, 2 * i + 1)
    return folder


def write(folder, *files):
    """Writes a file that is no image to each name."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("no image")


def lines(path, split=None):
    """What is said of a folder, which is called ROOT."""
    root = path if path.is_dir() else path.parent
    said = list_images(path, split).lines
    return [line.replace(str(root), "ROOT") for line in said]


def refused(path, split=None):
    with pytest.raises(mj.InputError) as caught:
        list_images(path, split)
    return str(caught.value)


def test_nothing_is_said_of_a_plain_folder(tmp_path):
    fill(tmp_path, "a/1.png", "a/2.JPG", "b/1.jpe", "b/2.jfif", "b/3.Jpeg", "b/4.tif")
    write(tmp_path, ".hidden", "a/._1.png", "a/.DS_Store", "a/Thumbs.db")
    write(tmp_path, "desktop.ini", ".git/x.heic", "__MACOSX/a/1.heic")
    fill(tmp_path, "@eaDir/1.png/small.jpg")
    assert lines(tmp_path) == []
    assert list(list_images(tmp_path, None).classes) == ["a", "b"]
    assert len(list_images(tmp_path, None).files) == 6


def test_the_names_of_readable_suffixes(tmp_path):
    fill(tmp_path, "a/1.jpe", "a/2.jfif")
    assert image_folder(tmp_path, SIZE).counts.tolist() == [2]


def test_other_suffixes_are_counted(tmp_path):
    fill(tmp_path, "a/1.png", "b/1.png")
    write(tmp_path, "a/2.heic", "a/3.HEIC", "b/2.avif", "b/notes", "x.txt")
    (said,) = lines(tmp_path)
    assert said.startswith("5 other files are passed over in ROOT: 2 .heic, 1 ")
    for kind in ("1 .avif", "1 notes", "1 .txt"):
        assert kind in said
    with pytest.warns(UserWarning, match="2 .heic, 1 "):
        image_folder(tmp_path, SIZE)


@pytest.mark.parametrize("split", [None, "train"])
def test_classes_that_vanish_are_named(tmp_path, split):
    root = tmp_path if split is None else tmp_path / "train"
    fill(root, "a/1.png", "b/1.png")
    write(root, "cat/1.heic", "cat/2.heic")
    (root / "dog").mkdir()
    said = list_images(tmp_path, split).lines
    assert f"no pictures in cat, dog of {root}, so no class" in said
    assert f"2 other files are passed over in {root}: 2 .heic" in said
    assert len(said) == 2


def test_many_names_are_cut_short(tmp_path):
    fill(tmp_path, "a/1.png")
    for i in range(9):
        (tmp_path / f"empty{i}").mkdir()
    (said,) = lines(tmp_path)
    assert "empty4, and 4 more of ROOT" in said and "empty5" not in said


def test_images_in_no_class_are_counted(tmp_path):
    fill(tmp_path, "a/1.png", "b/1.png", "loose.png", "more.jpg")
    assert lines(tmp_path) == ["2 images are in no folder of ROOT: not read"]


def test_tables_beside_classes_are_named(tmp_path):
    fill(tmp_path, "images/a/1.png", "images/b/1.png")
    (tmp_path / "labels.csv").write_text("filename,label\na/1.png,x\nb/1.png,y\n")
    assert lines(tmp_path) == [
        "the classes of ROOT are its folders; not read: labels.csv"
    ]
    assert list(list_images(tmp_path / "labels.csv", None).classes) == ["x", "y"]


def test_tables_beside_splits_are_named(tmp_path):
    fill(tmp_path, "train/a/1.png", "val/b/1.png")
    write(tmp_path, "train.csv", "val.csv", "all.csv", "split/train.csv")
    (said,) = list_images(tmp_path, "train").lines
    assert said.endswith("not read: ../all.csv, ../split/train.csv, ../train.csv")
    (said,) = list_images(tmp_path, "validation").lines
    assert said.endswith("not read: ../all.csv, ../val.csv")


def test_images_of_no_split_are_named(tmp_path):
    fill(tmp_path, "train/a/1.png", "test/b/1.png", "extra/c/1.png", "1.png")
    write(tmp_path, "docs/readme.txt")
    assert lines(tmp_path, "train") == [
        "images of ROOT in none of its splits are not read: 1.png, extra"
    ]


@pytest.mark.parametrize(
    "names", [("Train", "Valid", "TEST"), ("training", "val", "testing")]
)
def test_splits_as_people_spell_them(tmp_path, names):
    for name, split in zip(names, ("train", "validation", "test")):
        fill(tmp_path, f"{name}/{split}_class/1.png")
        (listed,) = list_images(tmp_path, split).classes
        assert listed == f"{split}_class"
    assert "is split (" in refused(tmp_path)
    assert "split=" not in refused(tmp_path)


def test_two_folders_of_one_split_are_refused(tmp_path):
    fill(tmp_path, "val/a/1.png", "Validation/b/1.png")
    assert "several validation splits (Validation and val)" in refused(
        tmp_path, "validation"
    )


def test_a_table_of_a_split_may_be_given_alone(tmp_path):
    fill(tmp_path, "images/1.png")
    (tmp_path / "split").mkdir()
    table = tmp_path / "split" / "train.csv"
    table.write_text("filename,label\n1.png,x\n")
    assert list(list_images(table, None).classes) == ["x"]


@pytest.mark.parametrize("beside", ["segmentations", "masks", "Annotations"])
def test_masks_beside_images_are_told(tmp_path, beside):
    names = [f"{k:03}.Bird/{j}" for k in range(3) for j in range(2)]
    fill(tmp_path, *(f"images/{name}.jpg" for name in names))
    fill(tmp_path, *(f"{beside}/{name}.png" for name in names))
    (said,) = lines(tmp_path)
    first = ", ".join(sorted(["images", beside]))
    assert said.startswith(f"{first} of ROOT hold folders of the same names (000.Bird")
    shutil.move(tmp_path / "images", tmp_path / "set" / "images")
    shutil.move(tmp_path / beside, tmp_path / "set" / beside)
    assert "ROOT/set hold folders of the same names" in lines(tmp_path)[0]
    assert lines(tmp_path / "set" / "images") == []


def test_classes_of_several_depths_are_told(tmp_path):
    fill(tmp_path, "cat/1.png", "cat/extra/1.png", "dog/1.png")
    (said,) = lines(tmp_path)
    assert "lie at several depths (cat, cat/extra)" in said
    fill(tmp_path / "flat", "images/a/1.png", "images/b/1.png", "masks/1.png")
    assert "several depths (masks, images/a)" in lines(tmp_path / "flat")[0]


def test_broken_links_and_links_to_what_is_read(tmp_path):
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "cat").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "same").symlink_to("a")
    assert lines(tmp_path) == [
        "2 links are broken in ROOT: cat, loop",
        "1 link is passed over in ROOT, to folders that are read already: same",
    ]


def test_one_picture_under_two_labels(tmp_path):
    fill(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    shutil.copy(tmp_path / "a/1.png", tmp_path / "b/slip.png")
    shutil.copy(tmp_path / "a/1.png", tmp_path / "a/twice.png")
    (tmp_path / "c" / "linked.png").symlink_to("../b/1.png")
    said, twice = lines(tmp_path)
    assert said.startswith("2 images are under two labels in ROOT, the same byte")
    assert twice.startswith("1 image is twice under one label in ROOT, the same byte")
    assert "for byte: a/1.png and a/twice.png; delete the copies" in twice
    assert "a/1.png and b/slip.png" in said and "b/1.png and c/linked.png" in said
    with pytest.warns(UserWarning) as warned:
        image_folder(tmp_path, SIZE)
    assert [str(x.message) for x in warned] == [
        line.replace("ROOT", str(tmp_path)) for line in (said, twice)
    ]


def test_one_picture_under_two_labels_of_a_table(tmp_path):
    fill(tmp_path, "images/1.png")
    shutil.copy(tmp_path / "images/1.png", tmp_path / "images/2.png")
    (tmp_path / "labels.csv").write_text("filename,label\n1.png,x\n2.png,y\n")
    assert "1.png and 2.png" in lines(tmp_path)[0]
    (tmp_path / "labels.csv").write_text("filename,label\n1.png,x\n2.png,x\n")
    assert "1 image is twice under one label" in lines(tmp_path)[0]


def test_files_alike_in_size_and_end_only(tmp_path):
    for name, content in {"a": b"x", "b": b"y", "c": b"x"}.items():
        (tmp_path / name).write_bytes(content + bytes(END))
    paths = [tmp_path / name for name in "abc"]
    pair = paths[0], paths[2]
    assert copies({"1": paths[:1], "2": paths[1:2]}) == ([], [])
    assert copies({"1": paths[:1], "2": paths[1:]}) == ([pair], [])
    assert copies({"1": paths}) == ([], [pair])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    odd = [tmp_path / name for name in ("pipe", "empty", "gone")]
    assert copies({"1": odd, "2": odd}) == ([], [])


def test_images_in_no_line_of_a_table(tmp_path):
    fill(tmp_path, *(f"images/{i}.png" for i in range(6)))
    write(tmp_path, "images/7.heic", "readme.txt")
    for i, split in enumerate(("train", "val", "test")):
        (tmp_path / f"{split}.csv").write_text(f"filename,label\n{i}.png,c{i}\n")
    for split in ("train", "validation", "test"):
        said = lines(tmp_path, split)
        assert said[0].startswith("3 images are in ROOT/images and in no line of")
        assert said[1] == "1 other file is passed over in ROOT/images: 1 .heic"
        assert len(said) == 2


def test_two_tables_of_a_split(tmp_path):
    fill(tmp_path, "images/1.png")
    for name in ("train.csv", "split/train.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("filename,label\n1.png,x\n")
    assert lines(tmp_path, "train") == [
        "ROOT/train.csv is read, not ROOT/split/train.csv"
    ]


def test_a_bad_split_does_not_stop_another(tmp_path):
    fill(tmp_path, "train/a/1.png", "test/1.png")
    for name in ("a.csv", "b.csv"):
        (tmp_path / "test" / name).write_text("filename,label\n1.png,x\n")
    assert image_folder(tmp_path, SIZE, split="train").names == ("a",)
    assert "has several tables (a.csv, b.csv)" in refused(tmp_path, "test")


def test_what_is_beside_loose_images(tmp_path):
    fill(tmp_path, "1.png", "deep/2.jpg")
    write(tmp_path, "a.HEIC", "deep/b.heic", "notes", ".hidden", "Thumbs.db")
    names, said = list_loose(tmp_path)
    assert names == ["1.png", "deep/2.jpg"]
    assert said == (f"3 other files are passed over in {tmp_path}: 2 .heic, 1 notes",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b").chmod(0)
    try:
        assert "cannot be read (Permission denied)" in refused(tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)


def test_each_line_is_a_warning_where_it_was_called(tmp_path):
    fill(tmp_path, "a/1.png", "loose.png")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        image_folder(tmp_path, SIZE)
    assert [w.filename for w in said] == [__file__]


def test_whether_there_is_a_split(tmp_path):
    folder = fill(tmp_path / "folders", "train/cats/0.png", "valid/dogs/0.png")
    assert has_split(folder, "train") and has_split(folder, "validation")
    assert not has_split(folder, "test")
    (folder / "test.csv").write_text("damaged")
    assert has_split(folder, "test")
    tables = fill(tmp_path / "table", "images/0.png", "images/1.png")
    rows = "filename,label,split", "0.png,cats,train", "1.png,dogs,val"
    (table := tables / "labels.csv").write_text("\n".join(rows))
    for path in (tables, table):
        assert has_split(path, "train") and has_split(path, "validation")
        assert not has_split(path, "test")
    with pytest.raises(mj.InputError, match="which is not there"):
        has_split(tmp_path / "nowhere", "train")
