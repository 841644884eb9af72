"""Tables of labels as people have them."""

import pytest

import metajax as mj
from metajax.data._table import is_table
from metajax.data.listing import list_images
from tests.helpers import write_image

FORMS = {
    "capitals": "Filename,LABEL\n{a},x\n{b},y\n",
    "Hugging Face": "file_name,label\n{a},x\n{b},y\n",
    "Meta-Album": "FILE_NAME,CATEGORY,SUPER_CATEGORY\n{a},x,s\n{b},y,s\n",
    "semicolons": "filename;label\n{a};x\n{b};y\n",
    "tabs": "label\tfilename\nx\t{a}\ny\t{b}\n",
    "backslashes": "filename,label\ndeep\\{a},x\ndeep\\{b},y\n",
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


@pytest.mark.parametrize("text", ["photos,label\n", "filename,breed\n", "", "\0"])
def test_what_is_no_table(tmp_path, text):
    write_image(tmp_path / "0.png", 1)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(mj.InputError, match="must have the columns|not a table"):
        list_images(tmp_path / "a.csv", None)
    assert not is_table(tmp_path / "a.csv")
