"""Corrections of labels, added to the labelled pictures."""

from pathlib import Path

import pytest

from metajax.data.corrections import Corrections, add_corrections
from metajax.data.listing import find_images
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
