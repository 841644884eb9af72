"""`metajax label --masks` and `--boxes`, and the nouns behind them."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from metajax.cli.main import main
from metajax.data import coco_folder, mask_folder
from metajax.detection import Detections
from metajax.experiments import run
from metajax.experiments.build import build_learner
from metajax.experiments.config import with_learner
from metajax.experiments.families import CocoFolderData, MaskFolderData
from metajax.experiments.labelled import bare_task
from metajax.experiments.labelled_dense import dense_learner
from metajax.experiments.learners.loops import Maml
from metajax.experiments.networks import UNetModel
from metajax.experiments.presets import PRESETS
from metajax.labelling import (
    DenseLabeller,
    FolderMarks,
    ImageFormat,
    boxes,
    masks,
    teach_dense,
)
from metajax.labelling.dense.boxes import HEAD, BoxMark
from metajax.labelling.dense.marks import Frame, colour_of
from metajax.labelling.dense.masks import MaskMark
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import init_state
from tests.dense_folders import paint, write_boxes, write_masks
from tests.helpers import KEY

pytestmark = pytest.mark.usefixtures("relaxed")

CLASSES = "red", "green", "blue"
FAMILIES = {"masks": MaskFolderData, "boxes": CocoFolderData}
LEARNERS = {"masks": "prototypical-segmenter", "boxes": "correlation-detector"}
WRITERS = {"masks": write_masks, "boxes": write_boxes}
OUT = {"masks": "marks", "boxes": "marks.json"}


def begun(directory, kind, learner=None, **options):
    """A run that has only begun."""
    config = with_learner(
        replace(
            PRESETS[f"{kind}-folder-3w1s"],
            data=FAMILIES[kind](size=16, **options),
            model=UNetModel((8, 8)),
            inner=Maml(rate=0.1, steps=1),
        ),
        learner or LEARNERS[kind],
    )
    run.claim(directory, config)
    learner = build_learner(config, bare_task(config), steps=1)
    state = init_state(learner, config.outer.build(), KEY)
    Checkpoints(directory / "checkpoints").save(state)
    return directory


@pytest.fixture(scope="module", params=list(FAMILIES))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def trained(tmp_path_factory, kind):
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return begun(tmp_path_factory.mktemp("runs") / kind, kind)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, kind):
    """Labelled pictures, and eleven without labels, at two depths, one damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    WRITERS[kind](folder / "support", CLASSES, (3, 2, 1))
    for i in range(10):
        place = folder / "images" / ("deeper" if i % 2 else ".") / f"{i}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        paint(CLASSES[i % 3], 900 + i, (30 + i, 50))[0].save(place)
    (folder / "images" / "broken.png").write_bytes(b"\x89PNG")
    return folder


def label(run_dir, kind, folders, out, *more):
    command = ["label", run_dir, "--support", folders / "support", f"--{kind}", out]
    return main([str(x) for x in (*command, "--images", folders / "images", *more)])


def error(capsys):
    """The one line of error."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in "".join(lines)
    return errors[0]


@pytest.fixture(scope="module")
def labelled(trained, kind, folders, tmp_path_factory):
    """Everything the command writes, and what it says."""
    folder = tmp_path_factory.mktemp("labelled")
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("builtins.print", lambda *x, **_: said.extend(map(str, x)))
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            page = "--html", folder / "page.html"
            assert label(trained, kind, folders, folder / OUT[kind], *page) == 0
    return folder, "\n".join(said)


def test_what_to_expect_is_said_first(labelled, kind):
    _, said = labelled
    judged = {"masks": "intersection over union", "boxes": "average precision"}[kind]
    first = said.splitlines()[0]
    assert first.startswith(f"leave-one-out {judged}")
    assert "% on 5 labelled pictures; expect similar" in first
    assert "one class has one picture, which cannot be left out" in first
    assert f"{kind} of 10 pictures written to" in said and "with blue" in said
    assert "1 could not be read: listed in" in said


def test_what_is_written_is_read_back(labelled, kind, folders, tmp_path):
    """In the pictures' own sizes, by the readers of labelled folders."""
    folder, _ = labelled
    beside = (folder / "marks.unreadable.csv").read_text()
    assert 'broken.png,"cannot be read as an image' in beside
    whole = tmp_path / "whole"
    whole.mkdir()
    if kind == "masks":
        for part in ("masks", "classes.txt"):
            (whole / part).symlink_to(folder / "marks" / part)
        os.symlink(folders / "images", whole / "images")
        (folders / "images" / "broken.png").rename(tmp_path / "broken.png")
        store = mask_folder(whole, (30, 50))
        (tmp_path / "broken.png").rename(folders / "images" / "broken.png")
        with Image.open(whole / "masks" / "deeper" / "7.png") as mask:
            assert mask.size == (50, 37) and mask.mode == "P"
    else:
        store = coco_folder(folders / "images", annotations=folder / "marks.json")
        content = json.loads((folder / "marks.json").read_text())
        assert all(0 < x["score"] <= 1 for x in content["annotations"])
        sizes = {x["file_name"]: x["height"] for x in content["images"]}
        assert sizes["deeper/7.jpg"] == 37
    assert store.names == CLASSES and len(store.images) == 10


def test_the_page_shows_every_picture(labelled):
    text = (labelled[0] / "page.html").read_text()
    assert text.count("<figure>") == 10 and text.count("data:image/jpeg") == 10
    assert "broken.png: cannot be read" in text and "leave-one-out" in text
    assert {path.name for path in labelled[0].iterdir()} >= {"page.html"}


def test_nothing_is_left_of_labels_that_break_off(
    trained, kind, folders, tmp_path, monkeypatch, capsys
):
    def diverges(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(DenseLabeller, "decoded", diverges)
    assert label(trained, kind, folders, tmp_path / OUT[kind]) == 130
    assert not any(tmp_path.iterdir())


def test_a_picture_that_is_gone_is_listed(tmp_path):
    paint("red", 0)[0].save(tmp_path / "a.png")

    def decoded(images):
        (tmp_path / "a.png").unlink()
        return images

    source = SimpleNamespace(format=ImageFormat((8, 8), "RGB"))
    labeller: Any = SimpleNamespace(source=source, bits=None, decoded=decoded)
    marks = FolderMarks(labeller, tmp_path)
    assert list(marks) == []
    assert [file for file, _ in marks.unreadable] == ["a.png"]


def test_another_number_of_classes(kind, folders, tmp_path, capsys):
    one = begun(tmp_path / "maml", kind, "maml", ways=2)
    assert label(one, kind, folders, tmp_path / OUT[kind]) == 1
    said = error(capsys)
    assert "--support: got 3 classes (red, green, blue), and this maml takes" in said
    assert "just 2" in said
    assert dense_learner(begun(tmp_path / "any", kind), kind).ways is None


def test_the_flag_is_for_the_run(trained, kind, folders, tmp_path, capsys):
    other = {"masks": "boxes", "boxes": "masks"}[kind]
    assert label(trained, other, folders, tmp_path / "a") == 1
    place = {"masks": "--masks DIR", "boxes": "--boxes FILE"}[kind]
    assert f"a run of {kind}, which labels pictures by {place}" in error(capsys)
    plain = ["label", str(trained), "--support", str(folders / "support")]
    plain += ["--images", str(folders / "images")]
    assert main([*plain, "--out", str(tmp_path / "a.csv")]) == 1
    assert f"{place}; give that, with --support and --images, in" in error(capsys)
    assert main([*plain, f"--{kind}", "a", "--out", "b"]) == 1
    assert f"--out is not for --{kind}; leave it out" in error(capsys)
    assert main([*plain, "--masks", "a", "--boxes", "b"]) == 1
    assert "are of different runs; give one" in error(capsys)
    assert main(["label", str(trained), f"--{kind}", "a"]) == 1
    assert f"--{kind} needs a run's directory, --support DIR" in error(capsys)
    run.claim(tmp_path / "glyphs", PRESETS["glyphs"])
    assert label(tmp_path / "glyphs", kind, folders, tmp_path / "a") == 1
    assert "a run of classes, which labels pictures by --out FILE" in error(capsys)
    run.claim(tmp_path / "sines", PRESETS["sinusoid"])
    assert label(tmp_path / "sines", kind, folders, tmp_path / "a") == 1
    assert "takes no pictures; train one of images" in error(capsys)


def test_files_of_others_are_spared(trained, kind, folders, tmp_path, capsys):
    out = tmp_path / OUT[kind]
    if kind == "masks":
        out.mkdir()
        (out / "mine.png").write_bytes(b"mine")
        mend = "must be a new folder or an empty one"
    else:
        out.write_text("{}")
        mend = "which is not a file of this command"
    assert label(trained, kind, folders, out) == 1
    assert mend in error(capsys)
    assert label(trained, kind, folders, tmp_path / "no" / "a") == 1
    assert "which is not a folder; make it first" in error(capsys)
    assert label(trained, kind, folders, trained / "checkpoints" / "a") == 1
    assert "kept for a file of the run in" in error(capsys)
    (tmp_path / "a.unreadable.csv").write_text("mine,too\n")
    assert label(trained, kind, folders, tmp_path / "a") == 1
    assert "would be written over" in error(capsys)


def test_masks_among_pictures_and_two_of_one_name(tmp_path):
    check = masks().check
    with pytest.raises(ValueError, match="in .*, where masks would be taken for pict"):
        check("--masks", tmp_path / "a", tmp_path, ["b.png"])
    with pytest.raises(ValueError, match="a.jpg and a.png would both have the mask"):
        check("--masks", tmp_path / "a", tmp_path / "b", ["a.jpg", "a.png"])
    check("--masks", tmp_path / "a", tmp_path / "b", ["a.jpg", "c/a.jpg", "a.b.jpg"])


def test_boxes_are_written_over_those_of_this_command(tmp_path):
    (tmp_path / "a.json").write_text(HEAD)
    boxes(lambda x: x, 1).check("--boxes", tmp_path / "a.json", tmp_path, [])


def test_a_mask_is_enlarged_to_its_picture():
    shares = np.zeros((2, 2, 3), np.float32)
    shares[..., 0], shares[0, 0] = 1, [0.1, 0.0, 0.9]
    frame = Frame(np.array([1, 4]), (2, 2), (4, 6))
    mark = masks().mark(shares, frame)
    assert mark.values.shape == (4, 6) and set(np.unique(mark.values)) == {0, 5}
    assert mark.values[0, 0] == 5 and mark.values[-1, -1] == 0
    assert mark.confidence == pytest.approx(0.9)
    assert mark.parts() == [(4, f"{100 * (mark.values == 5).mean():.1f} %")]
    empty = masks().mark(np.eye(3, dtype=np.float32)[np.zeros((2, 2), int)], frame)
    assert empty.parts() == [] and empty.confidence == 1


def test_boxes_are_those_of_the_picture():
    corners = np.array([[0, 0, 8, 4], [-9, 2, 40, 9], [1, 1, 1, 1], [0, 0, 9, 9]])
    labels, present = np.array([0, 1, 0, 1]), np.array([True, True, True, False])
    scores = np.array([0.2, 0.9, 0.8, 0.7], np.float32)
    decoded = Detections(corners.astype(np.float32), labels, scores, present)  # pyright: ignore
    frame = Frame(np.array([2, 5]), (16, 16), (32, 64))
    mark = boxes(lambda x: x, 4).mark(decoded, frame)
    assert mark.corners.tolist() == [[0, 0, 32, 8], [0, 4, 64, 18]]
    assert mark.labels.tolist() == [2, 5] and mark.confidence == pytest.approx(0.9)
    assert mark.parts() == [(5, "0.90")]  # the other is too unsure to be drawn
    nothing = BoxMark(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), (4, 4))
    assert nothing.parts() == [] and nothing.confidence == 0


def test_what_is_drawn():
    def drawn(mark):
        picture = Image.new("RGB", (20, 10), "white")
        mark.draw(picture)
        return np.asarray(picture)

    colour = list(bytes.fromhex(colour_of(1)[1:]))
    values = np.zeros((20, 40), np.uint8)
    values[4:16, 4:36] = 2
    outline = drawn(MaskMark(values, 1.0))
    assert outline[2, 2].tolist() == colour and outline[5, 10].tolist() == [255] * 3
    box = np.array([[4.0, 4, 36, 16]])
    boxed = drawn(BoxMark(box, np.array([1]), np.array([0.9]), (20, 40)))
    assert boxed[2, 2].tolist() == colour and boxed[5, 10].tolist() == [255] * 3


def test_classes_that_no_picture_shows(trained, kind, tmp_path):
    learner = dense_learner(trained, kind)
    folder = WRITERS[kind](tmp_path, CLASSES, (2, 0, 2))
    meta = learner.build(2).init(KEY)
    with pytest.warns(UserWarning, match="no labelled picture shows green, left out"):
        labeller = teach_dense(
            learner, meta, learner.targets.read(folder, learner.format)
        )
    assert labeller.classes.tolist() == [0, 2] and labeller.names == CLASSES
    single = WRITERS[kind](tmp_path / "one", CLASSES, 1)
    store = learner.targets.read(single, learner.format)
    (said,) = teach_dense(learner, meta, store).expected
    assert said.startswith("accuracy cannot be estimated: every labelled picture")


def test_a_learner_that_diverged(trained, kind, tmp_path):
    learner = dense_learner(trained, kind)
    folder = WRITERS[kind](tmp_path, CLASSES[:2], 2)
    meta = jax.tree.map(lambda x: x * np.nan, learner.build(2).init(KEY))
    store = learner.targets.read(folder, learner.format)
    with pytest.raises(ValueError, match="outputs are not finite"):
        teach_dense(learner, meta, store)
