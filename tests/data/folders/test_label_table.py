"""Tables of labels as people have them."""

import re
from pathlib import Path

import pytest

import metajax as mj
from metajax.data.folders._rows import header_of
from metajax.data.folders.listing import list_images, parse_columns
from metajax.data.folders.table import is_table
from metajax.errors import naming
from tests.helpers import write_image

FORMS = {
    "capitals": "Filename,LABEL\n{a},x\n{b},y\n",
    "Hugging Face": "file_name,label\n{a},x\n{b},y\n",
    "Meta-Album": "FILE_NAME,CATEGORY,SUPER_CATEGORY\n{a},x,s\n{b},y,s\n",
    "semicolons": "filename;label\n{a};x\n{b};y\n",
    "tabs": "label\tfilename\nx\t{a}\ny\t{b}\n",
    "backslashes": "filename,label\ndeep\\{a},x\ndeep\\{b},y\n",
    "bars": "Image Path|Class Name\n{a}|x\n{b}|y\n",
    "quotes": '"image_id";"target"\n"{a}";"x"\n"{b}";"y"\n',
    "Label Studio": (
        "annotator,choice,id,image\n1,x,1,/data/upload/1/{a}\n"
        "1,y,2,/data/upload/1/3c7b2c1e-{b}\n"
    ),
    "without suffixes": "img,category\n0,x\n1,y\n",
    "from the folder": "path,tag\nimages/{a},x\n./images/{b},y\n",
    "whole paths": "filename,label\n{root}/images/{a},x\n{root}/images/deep/{b},y\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
def test_tables_that_people_have(tmp_path, form, encoding):
    for i, name in enumerate(("0.png", "1.png", "deep/0.png", "deep/1.png")):
        write_image(tmp_path / "images" / name, i)
    table = tmp_path / "train.csv"
    text = FORMS[form].format(a="0.png", b="1.png", root=tmp_path)
    table.write_text(text, encoding=encoding)
    classes = list_images(tmp_path, "train").classes
    assert {label: path.name for label, (path,) in classes.items()} == {
        "x": "0.png",
        "y": "1.png",
    }
    assert ("deep" in str(classes["x"][0])) == (form == "backslashes")
    assert is_table(table)


NO_TABLES = ["photos,label\n", "filename,breed\n", "", "\0"]


@pytest.mark.parametrize("text", NO_TABLES)
def test_what_is_no_table(tmp_path, text):
    write_image(tmp_path / "0.png", 1)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(mj.InputError, match="must have the columns|not a table"):
        list_images(tmp_path / "a.csv", None)
    (tmp_path / "a.csv").rename(tmp_path / "a")
    assert not is_table(tmp_path / "a")


LINES = '{{"file_name": "{a}", "label": "x"}}\n\n{{"label": "y", "file_name": "{b}"}}\n'
LAYOUTS = {
    "JSON lines": ("train.jsonl", "images", LINES),
    "Hugging Face": ("train/metadata.jsonl", "train", LINES),
    "a table in a split": ("train/metadata.csv", "train", FORMS["Hugging Face"]),
    "tabs": ("split/train.tsv", "images", FORMS["tabs"]),
    "up": (
        "split/train.csv",
        "pictures",
        "file,label\n../pictures/{a},x\n../pictures/{b},y\n",
    ),
    "a column of splits": (
        "all.csv",
        "images",
        "image,label,Split\n{a},x,train\n{b},y,Training\n{c},z,val\n",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_tables_are(tmp_path, layout):
    table, folder, text = LAYOUTS[layout]
    names = ("0.png", "1.png", "2.png")
    for i, name in enumerate(names):
        write_image(tmp_path / folder / name, i)
    (tmp_path / table).parent.mkdir(exist_ok=True)
    (tmp_path / table).write_text(text.format(**dict(zip("abc", names))))
    classes = list_images(tmp_path, "train").classes
    assert {label: path.name for label, (path,) in classes.items()} == {
        "x": "0.png",
        "y": "1.png",
    }


def write_table(tmp_path, text, name="train.csv", encoding="utf-8"):
    for i in range(3):
        write_image(tmp_path / "images" / f"{i}.png", i)
    (tmp_path / name).write_text(text, encoding=encoding)
    return tmp_path


def refused(folder, split="train", columns=None):
    with pytest.raises(mj.InputError) as caught:
        list_images(folder, split, columns)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_column_of_splits(tmp_path):
    rows = ["filename,label,split", "0.png,x,train", "1.png,y,test", "2.png,z,other"]
    folder = write_table(tmp_path, "\n".join(rows), "labels.csv")
    assert list(list_images(folder, "test").classes) == ["y"]
    (said,) = list_images(folder / "labels.csv", "train").lines
    assert "1 row is of no split in" in said and "split says other" in said
    (said,) = list_images(folder, None).lines
    assert "the column split of" in said and "rows of all splits are" in said
    assert "should say validation or val or valid, and says other" in refused(
        folder, "validation"
    )
    (folder / "more.csv").write_text("\n".join(rows))
    assert "has several tables (labels.csv, more.csv)" in refused(folder)


@pytest.mark.parametrize(
    "header, names",
    [
        ("filename,path,label", "filename and path may all be those of files"),
        ("image,label,Class", "label and Class may all be those of labels"),
        ("image,Image,label", "image and Image may all"),
        ("file,label,x;file;label", "with commas and semicolons between"),
    ],
)
def test_a_table_of_two_readings_is_refused(tmp_path, header, names):
    said = refused(write_table(tmp_path, f"{header}\n0.png,x,y\n"))
    assert "can be read in several ways" in said and names in said


def test_columns_by_name(tmp_path):
    folder = write_table(tmp_path, "shot;label;breed\n0.png;1;pug\n1.png;2;cat\n")
    assert "has none for files, got shot, label, breed" in refused(folder)
    columns = parse_columns("file=Shot, label=breed")
    assert list(list_images(folder, "train", columns).classes) == ["cat", "pug"]
    assert list(list_images(folder, "train", {"file": "shot"}).classes) == ["1", "2"]
    said = refused(folder, columns={"file": "shot", "label": "race"})
    assert "its columns are shot, label, breed: change columns" in said
    with naming({"columns": "--columns", "columns_example": "--columns file=NAME"}):
        assert "by --columns file=NAME" in refused(folder)
        assert "change --columns" in refused(folder, columns={"label": "race"})


@pytest.mark.parametrize("text", ["", "file", "file=", "image=x", "file=a,file=b"])
def test_columns_of_another_form(text):
    with pytest.raises(mj.InputError, match="columns must name (each|.*split)"):
        parse_columns(text)


def test_columns_are_not_for_folders(tmp_path):
    write_image(tmp_path / "train/a/0.png", 1)
    assert "columns is for a table" in refused(tmp_path, columns={"file": "x"})


def test_latin_1_and_what_is_no_object(tmp_path):
    folder = write_table(
        tmp_path, "filename,label\n0.png,caf\xe9\n", encoding="latin-1"
    )
    assert "iconv -f LATIN1 -t UTF-8" in refused(folder)
    for line, message in (("[1]", "must be a JSON object"), ("{", "is not JSON")):
        folder = write_table(tmp_path, f"{line}\n", "val.jsonl")
        assert f"line 1 of {folder / 'val.jsonl'} {message}" in refused(
            folder, "validation"
        )


def test_a_name_that_fits_two_files(tmp_path):
    folder = write_table(tmp_path, "image,label\n0,x\n")
    write_image(folder / "images/0.bmp", 1)
    assert "names 0, which may be 0.png and 0.bmp; write the whole" in refused(folder)


def test_paths_of_another_machine(tmp_path):
    text = "image,label\n/home/me/0.png,x\nC:\\me\\1.png,y\n/etc/hosts,z\n"
    said = refused(write_table(tmp_path, text))
    assert said.count("which is not in") == 3
    assert "make its path relative to that folder" in said


TABLES = {
    "a.csv": "photo,breed\n0.png,x\n",
    "b.jsonl": '\n{"file_name": "0.png", "label": "x"}\n',
    "c.csv": "name,caf\xe9\n",
    "d.tsv": "\nphoto\tbreed\n",
    "e": "file,label\n0.png,x\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_what_may_be_a_table(tmp_path, name):
    (tmp_path / name).write_text(TABLES[name], encoding="latin-1")
    assert is_table(tmp_path / name)


def test_the_header_of_json_lines_may_come_late(tmp_path):
    (tmp_path / "a.jsonl").write_text('\n \n{"image": "0.png", "split": "train"}\n')
    assert header_of(tmp_path / "a.jsonl", None) == ["image", "split"]


def test_cells_beyond_the_last_column_are_refused(tmp_path):
    said = refused(write_table(tmp_path, "file,label\n0.png,cat, black\n1.png,x,\n"))
    assert "line 2 of" in said and "line 3" not in said
    assert "has more cells than the table has columns (black); put a cell" in said
    table = tmp_path / "train.csv"
    table.write_text("file,label,split\n0.png,cat, black,train\n1.png,x,train\n")
    with pytest.raises(mj.InputError, match="line 2 of .* more cells .*train"):
        list_images(table, "train")


@pytest.mark.parametrize(
    "rows, message",
    [
        ('0.png,"cat\n1.png,dog\n', "begins in line 2 cannot be read"),
        ('0.png,x\n1.png,"cat" black\n', "begins in line 3 cannot be read"),
        ('0.png,"cat\n1.png,dog"\n', "line 3 of .* has a line break"),
        ('"0.png\r\n",dog\n', "line 3 of .* has a line break"),
    ],
)
def test_quotes_that_swallow_lines_are_refused(tmp_path, rows, message):
    said = refused(write_table(tmp_path, f"file,label\n{rows}"))
    assert re.search(message, said) and "close its quotes" in said
    assert "iconv" not in said


def test_line_breaks_and_quotes_where_they_may_be(tmp_path):
    rows = '0.png,5" disk,"two\nlines"\n1.png, "a ""b""",\n'
    folder = write_table(tmp_path, f"file,label,note\n{rows}")
    assert list(list_images(folder, "train").classes) == ['5" disk', 'a "b"']


def test_a_column_that_is_named_has_no_other_role(tmp_path):
    table = tmp_path / "a.csv"
    write_table(tmp_path, "image,label,subset\n0.png,x,a\n1.png,y,b\n", "a.csv")
    listing = list_images(table, None, {"label": "subset"})
    assert list(listing.classes) == ["a", "b"]
    assert "subset" not in str(listing.lines)
    with pytest.raises(mj.InputError, match="no column of it says the split"):
        list_images(table, "train", {"label": "subset"})


def test_a_folder_given_by_a_relative_path(tmp_path, monkeypatch):
    write_table(tmp_path, "file,label\n0.png,x\nimages/1.png,y\n/etc/hosts,z\n")
    monkeypatch.chdir(tmp_path)
    for folder in (Path("."), Path("images/..")):
        assert "names /etc/hosts, which is not in" in refused(folder)
    (tmp_path / "train.csv").write_text("file,label\n0.png,x\nimages/1.png,y\n")
    assert [str(p) for p in list_images(Path("."), "train").files] == [
        "images/0.png",
        "images/1.png",
    ]
