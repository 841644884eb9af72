"""Names of classes as people meant them."""

import unicodedata

import pytest

from metajax.data import image_folder
from metajax.data.folders.listing import list_images
from metajax.data.folders.names import clean, clean_path, counted, some
from tests.helpers import write_image

COMPOSED, APART = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
SAME = ["cat", " cat", "cat\t", "cat\u00a0", "\u3000cat"]
SAME += ["\ufeffcat", "cat\u200b ", "\u2060 cat"]


@pytest.mark.parametrize("name", SAME)
def test_white_space_at_the_ends_is_dropped(name):
    assert clean(name) == "cat"


def test_a_name_is_in_one_form():
    assert clean(APART) == COMPOSED != APART
    assert clean("a b") == "a b" and clean(" ") == ""
    assert clean_path("a / b/ ") == "a/b/ "
    assert clean("\udc80") == "\udc80", "what is no text in a file's name"


@pytest.mark.parametrize("other", [*SAME[1:]])
def test_folders_of_one_name_are_one_class(tmp_path, other):
    for i, name in enumerate(("cat", other, "dog")):
        for j in range(i + 1):
            write_image(tmp_path / name / f"{j}.png", 9 * i + j)
    with pytest.warns(UserWarning, match="are read as one class, cat: "):
        store = image_folder(tmp_path, (2, 2))
    assert store.names == ("cat", "dog") and store.counts.tolist() == [3, 3]


def test_folders_in_two_unicode_forms(tmp_path):
    for i, name in enumerate((COMPOSED, APART)):
        write_image(tmp_path / "deep" / name / "0.png", 9 * i)
    listing = list_images(tmp_path, None)
    assert list(listing.classes) == [f"deep/{COMPOSED}"] and len(listing.files) == 2
    assert ascii(f"deep/{APART}") in listing.lines[0]


def test_labels_of_one_name_are_one_class(tmp_path):
    names = ["cat", "cat ", " cat", "cat\u00a0", COMPOSED, APART]
    for i in range(len(names)):
        write_image(tmp_path / "images" / f"{i}.png", i)
    rows = "\n".join(f"{i}.png,{name}" for i, name in enumerate(names))
    (tmp_path / "train.csv").write_text(f"filename,label\n{rows}\n", encoding="utf-8")
    listing = list_images(tmp_path, "train")
    assert {k: len(v) for k, v in listing.classes.items()} == {COMPOSED: 2, "cat": 4}
    assert len(listing.lines) == 2


def test_a_label_of_white_space_is_none(tmp_path):
    write_image(tmp_path / "a.png", 1)
    (tmp_path / "a.csv").write_text("filename,label\na.png,\u00a0\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 .* must have a filename and a label"):
        list_images(tmp_path, None)


@pytest.mark.parametrize(
    "other", ["Cat", "CAT", "ｃａｔ", "cat.", "c\u200bat", "ca\u00adt"]
)
def test_names_that_look_alike_are_told(tmp_path, other):
    for i, name in enumerate(("cat", other, "dog")):
        write_image(tmp_path / name / "0.png", i)
    listing = list_images(tmp_path, None)
    assert len(listing.classes) == 3
    (said,) = listing.lines
    assert "look alike" in said and ascii("cat") in said and ascii(other) in said


def test_files_in_either_unicode_form_and_with_white_space(tmp_path):
    write_image(tmp_path / "images" / f"{APART}.png", 1)
    write_image(tmp_path / "images" / "b.png", 2)
    table = f"filename ,Label\n{COMPOSED}.png,x\nb.png  ,y\n"
    (tmp_path / "a.csv").write_text(table, encoding="utf-8")
    listing = list_images(tmp_path, None)
    assert [path.name for path in listing.files] == [f"{APART}.png", "b.png"]


def test_the_words_of_messages():
    assert counted(1, "link") == "1 link is" and counted(0, "link") == "0 links are"
    assert some("abcde") == "a, b, c, d, e"
    assert some("abcdefg") == "a, b, c, d, e, and 2 more"
