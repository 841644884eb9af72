"""Corrections of labels, added to the labelled pictures."""

from pathlib import Path

import pytest

from metajax.data.folders import corrections as module
from metajax.data.folders.corrections import Corrections, add_corrections
from metajax.data.folders.listing import find_images
from metajax.data.folders.table import read_table
from metajax.errors import InputError
from tests.helpers import write_image

LABELLED = {"cat/a.png": 10, "cat/b.png": 20, "dog/c.png": 30, "dog/copy.png": 10}
LOOSE = {"x.png": 40, 'deeper/odd, "y".png': 50, "again.png": 20}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name, value in LABELLED.items():
        write_image(tmp_path / "labelled" / name, value)
    for name, value in LOOSE.items():
        write_image(tmp_path / "images" / name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def corrected(text, *folders, support="labelled"):
    Path("corrections.csv").write_text(text)
    corrections = Corrections(Path("corrections.csv"), list(map(Path, folders)))
    return add_corrections(find_images(Path(support), None, None), corrections)


def names(listing):
    assert all(path.is_absolute() for path in listing.files)
    root = listing.folder.parent
    return {
        name: [path.relative_to(root).as_posix() for path in files]
        for name, files in listing.classes.items()
    }


def test_corrected_pictures_are_added():
    """As the page quotes them; a class may be a new one."""
    rows = '"filename","label"\n"deeper/odd, ""y"".png","dog"\n"x.png","a ""b"", c"\n'
    listing = corrected(rows, "images", ".")
    assert names(listing) == {
        'a "b", c': ["images/x.png"],
        "cat": ["labelled/cat/a.png", "labelled/cat/b.png"],
        "dog": [
            *("labelled/dog/c.png", "labelled/dog/copy.png"),
            'images/deeper/odd, "y".png',
        ],
    }
    assert not listing.faults
    assert [line for line in listing.lines if "again" in line] == []


def test_a_correction_wins_over_the_label_of_the_same_picture():
    """Whether it is the same file, or a copy; a class may be left without pictures."""
    listing = corrected("filename,label\nagain.png,dog\n", "images")
    assert names(listing)["cat"] == ["labelled/cat/a.png"]
    assert names(listing)["dog"][-1] == "images/again.png"
    assert listing.lines[-1] == (
        "1 labelled picture is in corrections.csv again, whose label is taken: "
        "cat/b.png"
    )
    rows = "filename,label\ncat/a.png,dog\ncat/b.png,dog\n"
    listing = corrected(rows, "labelled")
    both = ["labelled/cat/a.png", "labelled/cat/b.png"]
    assert names(listing) == {"dog": ["labelled/dog/c.png", *both]}
    assert "3 labelled pictures are in" in listing.lines[-1]


def test_a_class_that_looks_like_a_labelled_one_is_told():
    """Whichever table has it; and what was told of the folders is not told again."""
    write_image(Path("labelled/Dog/a.png"), 60)
    listing = corrected("filename,label\nx.png,Cat\nagain.png,dog \n", "images")
    assert [*listing.classes] == ["Cat", "Dog", "cat", "dog"]
    (dogs,) = [line for line in listing.lines if "'dog' look alike" in line]
    assert "'Cat' and 'cat' look alike and are read as different" in str(listing.lines)
    assert "'dog' and 'dog ' are read as one class, dog" in str(listing.lines)


def test_names_that_are_not_text_are_those_of_the_page():
    """Which writes such parts as their codes, of files and of classes."""
    try:
        write_image(Path("images/caf\udce9.png"), 60)
    except OSError:
        pytest.skip("the disk takes text only")
    write_image(Path("labelled/th\udce9/a.png"), 70)
    table = "filename,label\ncaf\\udce9.png,th\\udce9\n"
    listing = corrected(table, "images")
    assert not listing.faults
    assert names(listing)["th\udce9"] == [
        "labelled/th\udce9/a.png",
        "images/caf\udce9.png",
    ]


def test_a_table_is_read_once_where_it_has_no_faults(monkeypatch):
    folders = []

    def read(table, place):
        folders.append(place.folder)
        return read_table(table, place)

    monkeypatch.setattr(module, "read_table", read)
    corrected("filename,label\nx.png,cat\n", "images", ".")
    assert folders == [Path("images")]


def test_files_are_looked_for_with_the_pictures_and_beside_the_table():
    rows = "filename,label\nimages/x.png,cat\n"
    for folders in (["images", "."], ["labelled", "."], ["labelled", "images"]):
        assert "images/x.png" in names(corrected(rows, *folders))["cat"]
    place = "/data/local-files/?d=images/deeper/odd%2C%20%22y%22.png"
    listing = corrected(f"image,choice\n{place},x\n", "images")
    assert names(listing)["x"] == ['images/deeper/odd, "y".png']


def test_what_cannot_be_used_is_refused():
    listing = corrected("filename,label\nno.png,cat\n", "images", ".")
    (fault,) = listing.faults
    assert "names no.png, which is not in images" in fault.reason
    with pytest.raises(InputError, match="names no images"):
        corrected("filename,label\n", "images")
    with pytest.raises(InputError, match="at none.csv, which is not a file; save it"):
        listing = find_images(Path("labelled"), None, None)
        add_corrections(listing, Corrections(Path("none.csv"), [Path("images")]))


def test_two_corrections_of_one_picture_are_told(folder):
    write_image(folder / "images" / "twin.png", LOOSE["x.png"])
    listing = corrected("filename,label\nx.png,cat\ntwin.png,dog\n", "images")
    assert "1 image is under two labels" in listing.lines[-1]
