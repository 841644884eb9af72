"""Labels as tables, as files that other tools import, and as folders of links."""

import csv
import io
import json
import os
from urllib.parse import unquote

import pytest

from metajax.errors import InputError
from metajax.experiments.label_forms import WRITERS
from metajax.experiments.label_outputs import LabelFiles
from metajax.labelling import Label
from metajax.labelling.writing.appending import appending, labelled_files
from metajax.labelling.writing.forms import (
    COCO_FILE,
    CSV,
    LABEL_STUDIO,
    TABLES,
    LabelSource,
)
from metajax.labelling.writing.links import write_links
from tests.helpers import write_image

NAMES = ["a.png", "deeper/a.png", "deeper_a.png", 'odd,"é name.png']
LABELS = [Label(name, "x/y", 0.75, "cat", 0.25) for name in NAMES]
LABELS.append(Label("b.png", "none", 0.5, "cat", 0.12345))  # no class of the labeller


@pytest.fixture
def images(tmp_path):
    for i, label in enumerate(LABELS):
        write_image(tmp_path / "own images" / label.file, 9, size=(10 + i, 20))
    return tmp_path / "own images"


@pytest.fixture
def source(images):
    return LabelSource(images, ("cat", "x/y"), "maml")


def written(form, source, labels=LABELS):
    return b"".join(form.blocks(iter(labels), source))


def test_lines_of_json_hold_what_the_table_holds(source):
    rows = list(csv.DictReader(io.StringIO(written(CSV, source).decode())))
    lines = written(TABLES[".jsonl"], source).decode().splitlines()
    objects = [json.loads(line) for line in lines]
    assert objects[-1] == LABELS[-1]._replace(runner_up_confidence=0.1235)._asdict()
    assert len(rows) == len(objects) == 5
    for row, each in zip(rows, objects):
        assert list(row) == list(each) == list(Label._fields)
        for name, value in each.items():
            assert row[name] == (f"{value:.4f}" if isinstance(value, float) else value)


def test_a_name_that_is_not_text_is_written_as_its_code(source):
    odd = [Label("caf\udce9.png", "x", 1.0, "y", 0.0)]
    assert rb"caf\udce9.png,x" in written(CSV, source, odd)
    (line,) = written(TABLES[".jsonl"], source, odd).splitlines()
    assert json.loads(line)["file"] == r"caf\udce9.png"


def test_a_name_of_any_line_break_is_one_row(tmp_path):
    out, files = tmp_path / "a.csv", ["a\rb.png", "c\n.png", "d\r\n.png", "e.png"]
    with appending(out) as add:
        for name in files:
            add(Label(name, "x\ry", 0.5, "y", 0.5))
    assert labelled_files(out) == files
    last = out.read_bytes().removesuffix(b"\n").split(b"\n")[-1]
    assert last.startswith(b'e.png,"x\ry",0.5000,y,0.5000')


def test_label_studio_takes_tasks_with_predictions(images, source):
    """By its documentation: the tags are those of its template for classification."""
    tasks = json.loads(written(LABEL_STUDIO, source))
    assert len(tasks) == 5 and all({*task} == {"data", "predictions"} for task in tasks)
    for task, label in zip(tasks, LABELS):
        place = unquote(task["data"]["image"])
        assert place == f"/data/local-files/?d=own images/{label.file}"
        (guess,) = task["predictions"]
        (result,) = guess["result"]
        assert guess["score"] == label.confidence
        assert guess["model_version"].endswith(", maml")
        assert result["value"] == {"choices": [label.label]}
        tags = result["from_name"], result["to_name"], result["type"]
        assert tags == ("choice", "image", "choices")
    assert json.loads(written(LABEL_STUDIO, source, [])) == []


def test_coco_has_images_categories_and_annotations(source):
    content = json.loads(written(COCO_FILE, source))
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert list(names.values()) == ["cat", "x/y", "none"] and list(names) == [1, 2, 3]
    images = {each["id"]: each for each in content["images"]}
    assert [x["file_name"] for x in images.values()] == [x.file for x in LABELS]
    assert {x["height"] for x in images.values()} | {
        x["width"] for x in images.values()
    } == {*range(10, 15), 20}
    for each, label in zip(content["annotations"], LABELS):
        assert images[each["image_id"]]["file_name"] == label.file
        assert names[each["category_id"]] == label.label
        assert each["score"] == label.confidence
    assert json.loads(written(COCO_FILE, source, []))["images"] == []


def test_a_picture_that_is_gone_is_left_out_of_coco(images, source):
    (images / LABELS[0].file).unlink()
    with pytest.warns(UserWarning, match="a.png is left out of COCO's form: it cannot"):
        content = json.loads(written(COCO_FILE, source))
    assert [x["file_name"] for x in content["images"]] == [x.file for x in LABELS[1:]]
    assert [x["image_id"] for x in content["annotations"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("flag", ["--label-studio", "--coco"])
def test_only_an_own_file_is_replaced(tmp_path, images, source, flag):
    path, writer = tmp_path / "a.json", WRITERS[flag]
    path.write_text('[{"id": 1}]')
    with pytest.raises(InputError, match=f"{flag} would be written over .* not a file"):
        writer.check(flag, path, images)
    for labels in (LABELS, []):
        path.unlink()
        writer.check(flag, path, images)
        writer.write(path, labels, source)
        writer.check(flag, path, images)


def test_links_lead_to_every_picture(tmp_path, images, source):
    folder, writer = tmp_path / "links", WRITERS["--links"]
    for labels in (LABELS, LABELS[1:]):
        writer.check("--links", folder, images)
        writer.write(folder, labels, source)
        links = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_symlink()}
        targets = sorted(str(p.resolve().relative_to(images)) for p in links.values())
        assert targets == sorted(label.file for label in labels)
        assert {p.parent.as_posix() for p in links} == {"x/y", "none"}
        assert not any(os.path.isabs(os.readlink(p)) for p in links.values())
    assert {p.name for p in links} == {
        *("deeper_a.png", "deeper_a-2.png", 'odd,"é name.png', "b.png"),
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["links", "own images"]


def test_links_that_break_off_leave_the_old_ones(tmp_path, images):
    folder = tmp_path / "links"
    write_links(folder, LABELS, images)

    def breaks():
        yield LABELS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_links(folder, breaks(), images)
    assert sum(p.is_symlink() for p in folder.rglob("*")) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["links", "own images"]


def test_links_take_the_place_of_links_only(tmp_path, images, source):
    folder, writer = tmp_path / "links", WRITERS["--links"]
    writer.write(folder, LABELS, source)
    (folder / "none" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="notes.txt in it is not a link; move"):
        writer.check("--links", folder, images)
    with pytest.raises(InputError, match="holds 5 files or folders"):
        writer.check("--links", images, tmp_path / "others")
    with pytest.raises(InputError, match="links would be taken for pictures"):
        writer.check("--links", images / "links", images)


def test_no_class_leads_out_of_the_folder(tmp_path, images, source):
    odd = [LABELS[0]._replace(label=name) for name in ("../x", "/y", ".z")]
    WRITERS["--links"].write(tmp_path / "links", odd, source)
    links = [p for p in (tmp_path / "links").rglob("*") if p.is_symlink()]
    folders = {p.parent.relative_to(tmp_path / "links").as_posix() for p in links}
    assert folders == {"_../x", "_/y", "_.z"} and all(p.exists() for p in links)


def test_every_class_has_links_whatever_its_name(tmp_path, images, source):
    """As long as it likes, like a picture of another class, or of Windows' paths."""
    names = ["a", "a/b.png", "é" * 150 + "1", "é" * 150 + "2", r"..\x", "c:d", "c_d"]
    labels = [LABELS[-1]._replace(label=name) for name in names]
    WRITERS["--links"].write(tmp_path / "links", labels, source)
    links = [p for p in (tmp_path / "links").rglob("*") if p.is_symlink()]
    assert all(p.exists() for p in links)
    assert sorted(p.relative_to(tmp_path / "links").as_posix() for p in links) == [
        "_.._x/b.png",
        "a/b-2.png",
        "a/b.png/b.png",
        "c_d-2/b.png",
        "c_d/b.png",
        f"{'é' * 100}-2/b.png",
        f"{'é' * 100}/b.png",
    ]


def refused(**files):
    with pytest.raises(InputError) as caught:
        LabelFiles(**files).check()
    return str(caught.value)


def test_what_does_not_go_together_is_refused(tmp_path, images):
    out, coco = tmp_path / "a.csv", {"--coco": tmp_path / "a.json"}
    LabelFiles(images, others=coco).check()
    assert "--coco needs --images" in refused(others=coco)
    assert "must be different" in refused(
        images=images, others={**coco, "--label-studio": tmp_path / "a.json"}
    )
    said = refused(images=images, out=out, others={"--links": tmp_path})
    assert "must be a new folder or an empty one" in said
    said = refused(images=images, out=out, others={"--links": out})
    assert "--out and --links must be different files" in said
    (tmp_path / "new").mkdir()
    links = {"--links": tmp_path / "new"}
    said = refused(images=images, out=tmp_path / "new" / "a.csv", others=links)
    assert "--out is in the folder of --links, which is replaced" in said
    said = refused(images=images, out=tmp_path / "a.json")
    assert "--out is CSV (.csv) or JSON lines (.jsonl)" in said


def test_own_lines_of_json_are_replaced_and_others_spared(tmp_path, images, source):
    out = tmp_path / "a.jsonl"
    out.write_text('{"file": "a.png", "label": "x"}\n')
    assert "a table, and not one of this" in refused(images=images, out=out)
    out.write_bytes(written(TABLES[".jsonl"], source))
    LabelFiles(images, out).check()
