"""`metajax label`, as a person would run it."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from zipfile import ZipFile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from metajax._files.fingerprint import described
from metajax.cli.main import console, main
from metajax.data.pictures.decoding import decode
from metajax.data.sets import omniglot_builder
from metajax.errors import InputError
from metajax.experiments import labelled as maker
from metajax.experiments import run
from metajax.experiments.backbone import write_body
from metajax.experiments.build import build_learner
from metajax.experiments.config import with_learner
from metajax.experiments.evaluating import EvaluatingSteps
from metajax.experiments.families import FolderData
from metajax.experiments.label_outputs import LabelFiles
from metajax.experiments.labelled import (
    bare_task,
    body_of,
    build_per_query,
    format_of,
    image_learner,
    run_validation_tasks,
)
from metajax.experiments.labelled_backbone import load_labeller
from metajax.experiments.learners import LEARNERS
from metajax.experiments.learners.loops import Maml
from metajax.experiments.networks import CellsModel, Conv4Model
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Places
from metajax.labelling import (
    ImageFormat,
    Label,
    Labeller,
    Predictions,
    labeller,
    save,
    saved,
    teaching,
)
from metajax.labelling.trust import predictions
from metajax.labelling.writing.page import LISTED, Gallery, label_page
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import init_state
from metajax.types import Batch
from tests.helpers import KEY, cut, drawing, relative, write_image

pytestmark = pytest.mark.usefixtures("relaxed")

SMALL = [
    *("--outer.steps", "4", "--outer.tasks", "2", "--model.filters", "8"),
    *("--evaluation.tasks", "2", "--evaluation.inductive-queries", "1"),
]
SHOTS = {"bar": 3, "dot": 1, "pole": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    monkeypatch.setattr(predictions, "PREDICTIONS", 9)


@pytest.fixture(scope="module")
def prototypical(tmp_path_factory):
    """A run of a few meta-steps."""
    directory = tmp_path_factory.mktemp("runs") / "prototypical"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "VALIDATION_TASKS", 2)
        flags = ["--learner", "prototypical", "--run-dir", str(directory), *SMALL]
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            assert main(["train", "glyphs", *flags]) == 0
    return directory


def begun(directory, config, places=None):
    """A run that has only begun."""
    run.claim(directory, config)
    task = config.data.build(places or Places())
    learner = build_learner(config, task, steps=1)
    state = init_state(learner, config.outer.build(), KEY)
    Checkpoints(directory / "checkpoints").save(state)
    return directory


@pytest.fixture(scope="module")
def maml(tmp_path_factory):
    config = replace(PRESETS["glyphs"], model=Conv4Model(filters=8))
    return begun(tmp_path_factory.mktemp("runs") / "maml", config)


def draw(kind, number):
    """A picture of a kind, dark on white, 56x56."""
    pixels = np.full((56, 56), 255, np.uint8)
    place = 2 * (number % 3)
    if kind == "bar":
        pixels[36 + place : 46 + place, 6:50] = 0
    elif kind == "pole":
        pixels[6:50, 36 + place : 46 + place] = 0
    else:
        pixels[6 + place : 20 + place, 6:20] = 0
    return Image.fromarray(pixels)


def noise(seed):
    """A picture unlike any other, mostly white."""
    bits = np.random.default_rng(seed).integers(0, 3, (7, 7), np.uint8) > 0
    return Image.fromarray(
        np.kron(255 * bits.astype(np.uint8), np.ones((8, 8), np.uint8))
    )


def save_as(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of labelled pictures, and one of 70 without labels, at two depths."""
    folder = tmp_path_factory.mktemp("pictures")
    for kind, shots in SHOTS.items():
        for i in range(shots):
            save_as(folder / "support" / kind / f"{i}.png", draw(kind, i))
    for i in range(70):
        kind = list(SHOTS)[i % 3]
        inner = "deeper" if i % 2 else "."
        save_as(folder / "images" / inner / f"{kind}-{i}.png", draw(kind, i + 3))
    return folder


def label(run_dir, folders, out, *more):
    return main(
        ["label", str(run_dir), "--support", str(folders / "support")]
        + ["--images", str(folders / "images"), "--out", str(out), *map(str, more)]
    )


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def error(capsys):
    """The one line of error."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in "".join(lines)
    return errors[0]


@pytest.fixture(scope="module")
def labelled(prototypical, folders, tmp_path_factory):
    """Everything the command writes."""
    folder = tmp_path_factory.mktemp("labelled")
    flags = ["--html", folder / "page.html", "--save", folder / "adapted.npz"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "PREDICTIONS", 9)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            assert label(prototypical, folders, folder / "labels.csv", *flags) == 0
    return folder


def test_every_picture_has_its_label(labelled, folders):
    rows = rows_of(labelled / "labels.csv")
    assert list(rows[0]) == list(Label._fields)
    images = folders / "images"
    names = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    assert [row["file"] for row in rows] == names and len(names) == 70
    right = [f"{row['label']}-" in row["file"] for row in rows]
    assert np.mean(right) > 0.9
    for row in rows:
        first, second = float(row["confidence"]), float(row["runner_up_confidence"])
        assert 1 >= first >= second >= 0 and first + second <= 1.0001
        assert row["label"] in SHOTS and row["runner_up"] in {*SHOTS} - {row["label"]}
    assert {path.name for path in labelled.iterdir()} >= {"labels.csv", "page.html"}
    assert not list(labelled.glob("*.tmp")) + list(labelled.glob("*unreadable*"))


def test_what_to_expect_is_said(prototypical, folders, tmp_path, capsys):
    assert label(prototypical, folders, tmp_path / "labels.csv") == 0
    said = capsys.readouterr().out
    assert "6 labelled pictures of 3 classes, 1 to 3 of each" in said
    assert re.search(r"leave-one-out accuracy on 5 labelled pictures: [\d.]+ %", said)
    assert "one class has one picture, which cannot be left out" in said
    assert re.search(r"validation classes: .* % on 90 pictures of 10 tasks", said)
    assert "70 labels written to" in said


@pytest.mark.parametrize(
    "right, said",
    [(2, "no better than guessing (50.0 %)"), (9, "expect at least 60 %")],
)
def test_what_may_be_guessing_is_said(right, said):
    """Of ten pictures of two classes, so many told right."""
    labels = np.arange(10) % 2
    told = np.where(np.arange(10) < right, labels, 1 - labels)
    own = Predictions(np.eye(2)[told], labels)
    sentence = teaching.describe_own(own, np.array([5, 5]), ("a", "b"))
    assert f"pictures: {10 * right}.0 % (95" in sentence and said in sentence


def test_validation_tasks_are_those_of_the_sampler(monkeypatch):
    """Of as many shots a class, and no more than a few of a class of many."""
    config = PRESETS["glyphs"]
    monkeypatch.setattr(predictions, "SHOTS", 4)
    tasks = run_validation_tasks(config, Places(), [2, 9, 1])
    data = replace(config.data, ways=3, shots=4)
    drawn = data.build(Places()).episodes("validation", predictions.QUERIES)
    assert tasks.seed == config.seed
    rows = np.array([0, 1, 4, 5, 6, 7, 8])[predictions.shuffled(7)]
    np.testing.assert_array_equal(tasks.rows, rows)
    ours, theirs = (sampler(KEY, 2) for sampler in (tasks.sampler, drawn))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_labels_do_not_depend_on_the_other_pictures(
    prototypical, folders, labelled, tmp_path
):
    whole = {row["file"]: row for row in rows_of(labelled / "labels.csv")}
    few = ["deeper/dot-1.png", "bar-0.png", "pole-68.png"]
    for name in few:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folders / "images" / name, tmp_path / "images" / name)
    shutil.copytree(folders / "support", tmp_path / "support")
    assert label(prototypical, tmp_path, tmp_path / "few.csv") == 0
    found = rows_of(tmp_path / "few.csv")
    assert [row["file"] for row in found] == sorted(few)
    for row in found:
        other = whole[row["file"]]
        assert (row["label"], row["runner_up"]) == (other["label"], other["runner_up"])
        assert abs(float(row["confidence"]) - float(other["confidence"])) <= 1.01e-4


def test_labelled_and_unlabelled_may_be_one_folder(maml, folders, tmp_path):
    out = tmp_path / "labels.csv"
    support = str(folders / "support")
    flags = ["--support", support, "--images", support, "--out", str(out)]
    assert main(["label", str(maml), *flags]) == 0
    rows = rows_of(out)
    assert [row["file"] for row in rows][:2] == ["bar/0.png", "bar/1.png"]
    assert {row["label"] for row in rows} <= set(SHOTS)  # of five outputs
    assert np.mean([row["file"].startswith(row["label"]) for row in rows]) > 0.8


def test_corrections_teach_too(prototypical, folders, labelled, tmp_path, capsys):
    """As the page saves them; what is corrected is labelled as it was said to be."""
    page = (labelled / "page.html").read_text()
    assert "<code>--corrections corrections-*.csv</code>" in page
    before = '"bar-0.png","pole"\n"deeper/pole-5.png","bar"\n"dot-4.png","bar"\n'
    rows = before, '"dot-4.png","blot"\n'
    tables, out = [tmp_path / f"{i}.csv" for i in range(2)], tmp_path / "labels.csv"
    for table, own in zip(tables, rows):
        table.write_text('"filename","label"\n' + own)
    with pytest.warns(UserWarning) as said:
        assert label(prototypical, folders, out, "--corrections", *tables) == 0
    first, second = (w.message.args[0] for w in said if "whose label" in str(w.message))
    assert first.endswith("whose label is taken: bar/0.png")
    assert second.endswith("dot-4.png") and "1.csv again" in second
    assert "8 labelled pictures of 4 classes, 1 to 3 of" in capsys.readouterr().out
    named = {row["file"]: row["label"] for row in rows_of(out)}
    assert named["dot-4.png"] == named["deeper/dot-1.png"] == "blot"  # they are alike
    flags = ["--from", str(labelled / "adapted.npz"), "--corrections", str(out)]
    assert main(["label", *flags, "--save", str(tmp_path / "a.npz")]) == 1
    assert "leave out the run, its data, --checkpoint, --support" in error(capsys)


def test_other_files_are_counted(labelled, folders, tmp_path, capsys):
    shutil.copytree(folders / "images", tmp_path / "images")
    for name in ("a.HEIC", "deeper/b.heic", "notes", ".hidden"):
        (tmp_path / "images" / name).write_text("x")
    arguments = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "a.csv")]
    said = f"3 other files are passed over in {tmp_path}/images: 2 .heic, 1 notes"
    with pytest.warns(UserWarning, match=re.escape(said)):
        assert main(["label", "--from", str(labelled / "adapted.npz"), *arguments]) == 0
    assert "labelling 70 pictures" in capsys.readouterr().err


def hostile(folder):
    """Files that can be read, and files that cannot."""
    save_as(folder / "cmyk.jpg", draw("bar", 1).convert("CMYK"))
    save_as(folder / "deep.png", Image.fromarray(np.full((9, 9), 40000, np.uint16)))
    save_as(folder / "dot.bmp", Image.new("RGB", (1, 1), "white"))
    frames = [draw("bar", 0), draw("pole", 0)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    save_as(folder / "film.png", frames[0])
    save_as(folder / 'odd,"name\n.png', draw("pole", 2))
    good = {path.name for path in folder.iterdir()}
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    save_as(folder / "cut.png", Image.effect_noise((99, 99), 50))
    cut(folder / "cut.png")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "notes.txt").write_text("passed over")
    return good, {"empty.png", "text.jpg", "cut.png", "gone.png"}


def test_pictures_that_cannot_be_read_are_listed(labelled, tmp_path, capsys):
    (images := tmp_path / "images").mkdir()
    good, bad = hostile(images)
    out, beside = tmp_path / "labels.csv", tmp_path / "labels.unreadable.csv"
    arguments = ["label", "--from", str(labelled / "adapted.npz")]
    arguments += ["--images", str(images), "--out", str(out)]
    with pytest.warns(UserWarning) as said:
        assert main([*arguments, "--html", str(tmp_path / "page.html")]) == 0
    assert f"passed over in {images}: 1 .txt" in str(said[0].message)
    assert "the first is read: film.gif" in str(said[1].message)
    assert f"4 could not be read: listed in {beside}" in capsys.readouterr().out
    rows = {row["file"]: row for row in rows_of(out)}
    assert set(rows) == good
    assert rows["film.gif"]["label"] == rows["film.png"]["label"]
    refused = {row["file"]: row["reason"] for row in rows_of(beside)}
    assert set(refused) == bad and all(refused.values())
    assert str(tmp_path) not in "".join(refused.values())
    assert refused["empty.png"] == "cannot be read as an image (it is empty)"
    assert "it is none of PNG, JPEG" in refused["text.jpg"]
    page = Page((tmp_path / "page.html").read_text())
    assert "Could not be read: 4" in page.said and "#refused" in page.anchors
    assert all(f"{name}: {reason}" in page.said for name, reason in refused.items())
    for name in bad:
        (images / name).unlink()
    with pytest.warns(UserWarning):
        assert main(arguments) == 0
    assert not beside.exists()  # nothing is left to list


def test_a_folder_of_nothing_that_can_be_read(labelled, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    arguments = ["label", "--from", str(labelled / "adapted.npz")]
    arguments += [
        "--images",
        str(tmp_path / "images"),
        "--out",
        str(tmp_path / "a.csv"),
    ]
    assert main(arguments) == 1
    assert "no images in" in error(capsys)
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert main([*arguments, "--html", str(tmp_path / "a.html")]) == 0
    assert rows_of(tmp_path / "a.csv") == []
    assert "0 of" in (tmp_path / "a.html").read_text()


def test_a_labelled_picture_that_cannot_be_read(
    prototypical, folders, tmp_path, capsys
):
    shutil.copytree(folders, tmp_path / "own")
    (tmp_path / "own" / "support" / "dot" / "1.png").write_bytes(b"")
    assert label(prototypical, tmp_path / "own", tmp_path / "labels.csv") == 1
    assert re.search(r"dot/1\.png cannot be read as an image", error(capsys))
    assert not (tmp_path / "labels.csv").exists()


def test_one_class(prototypical, folders, tmp_path, capsys):
    shutil.copytree(folders / "support" / "bar", tmp_path / "support" / "bar")
    shutil.copytree(folders / "images", tmp_path / "images")
    assert label(prototypical, tmp_path, tmp_path / "labels.csv") == 1
    assert (
        "--support: expected at least 2 classes to choose from, got 1 (bar)"
        in error(capsys)
    )


def test_more_classes_than_outputs(maml, prototypical, tmp_path, capsys):
    for i in range(6):
        save_as(tmp_path / "support" / f"class{i}" / "a.png", noise(i))
    save_as(tmp_path / "images" / "a.png", noise(2))
    assert label(maml, tmp_path, tmp_path / "labels.csv") == 1
    assert "--support: got 6 classes, and this maml has outputs for 5" in error(capsys)
    assert label(prototypical, tmp_path, tmp_path / "labels.csv") == 0
    (row,) = rows_of(tmp_path / "labels.csv")
    assert row["label"] == "class2"
    assert "no labelled picture can be left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--out", "{}/no/a.csv"], "--out is in {}/no, which is not a folder"),
        (["--out", "{}"], "--out must be a file, and {} is a folder"),
        (["--out", "{}/a", "--html", "{}/a"], "--out and --html must be different"),
        (
            ["--out", "{}/a.csv", "--html", "{}/a.unreadable.csv"],
            "the list of what --out could not read and --html must be different",
        ),
        (["--out", "{}/a", "--images", "{}/no"], "images at {}/no, which is not there"),
        (["--out", "{}/a", "--support", "{}/no"], "at {}/no, which is not there"),
        (["--out", "{}/a", "--from", "{}/no"], "leave out the run, its"),
        (["--out", "{}/a", "--columns", "file"], "--columns must name the column"),
        ([], "--images needs --out"),
    ],
)
def test_a_mistake_is_told_before_anything_is_computed(
    prototypical, folders, tmp_path, capsys, monkeypatch, flags, said
):
    monkeypatch.setattr(maker, "restored", lambda *_: pytest.fail("it computed"))
    given = ["--support", str(folders / "support"), "--images", str(folders / "images")]
    own = [flag.format(tmp_path) for flag in flags]
    assert main(["label", str(prototypical), *given, *own]) == 1
    assert said.format(tmp_path, tmp_path) in error(capsys)
    assert not any(tmp_path.iterdir())


def test_an_export_spares_what_was_saved(tmp_path):
    pytest.importorskip("flatbuffers")
    save, program = tmp_path / "m.json", tmp_path / "m"
    said = "--save and the classes of --export must be different files"
    with pytest.raises(InputError, match=said):
        LabelFiles(save=save, export=program).check()
    LabelFiles(save=tmp_path / "m.npz", export=program).check()


def test_what_label_is_not_for(tmp_path, folders, capsys):
    folder = tmp_path / "sines"
    run.claim(folder, PRESETS["sinusoid"])
    assert label(folder, folders, tmp_path / "labels.csv") == 1
    assert "takes no pictures; train one of images" in error(capsys)
    assert label(tmp_path / "nowhere", folders, tmp_path / "labels.csv") == 1
    assert "is not a run directory" in error(capsys)
    assert main(["label"]) == 1
    assert "expected --images DIR with --out FILE, or --save" in error(capsys)


def test_labels_that_break_off_leave_the_old_ones(
    labelled, folders, tmp_path, monkeypatch
):
    out = tmp_path / "labels.csv"
    out.write_text(old := ",".join(Label._fields) + "\n")
    told, calls = labeller._judge, []

    def breaks(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return told(*args)

    monkeypatch.setattr(labeller, "_judge", breaks)
    arguments = ["--images", str(folders / "images"), "--out", str(out)]
    assert main(["label", "--from", str(labelled / "adapted.npz"), *arguments]) == 130
    assert len(calls) == 2 and out.read_text() == old
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_a_learner_that_diverged(maml, folders, tmp_path, capsys, monkeypatch):
    restored = maker.restored

    def diverged(*args):
        meta, step = restored(*args)
        return jax.tree.map(lambda x: x * jnp.nan, meta), step

    monkeypatch.setattr(maker, "restored", diverged)
    assert label(maml, folders, tmp_path / "labels.csv") == 1
    assert "the learner's outputs are not finite" in error(capsys)
    assert not any(tmp_path.iterdir())


def test_what_was_saved_labels_alike(labelled, folders, tmp_path, capsys):
    saved, out = labelled / "adapted.npz", tmp_path / "labels.csv"
    arguments = ["--images", str(folders / "images"), "--out", str(out)]
    assert main(["label", "--from", str(saved), *arguments]) == 0
    assert out.read_text() == (labelled / "labels.csv").read_text()
    assert "leave-one-out accuracy on" in capsys.readouterr().out
    with ZipFile(saved) as archive:
        about = json.loads(archive.read("about.json"))
    assert about["about"]["classes"] == sorted(SHOTS) and about["schema"] == 1
    assert str(folders) not in json.dumps(about)

    damaged = tmp_path / "damaged.npz"
    shutil.copy(saved, damaged)
    cut(damaged)
    assert main(["label", "--from", str(damaged), *arguments]) == 1
    assert "is not a saved learner, or is damaged" in error(capsys)
    for change in (
        {"classes": ["bar"]},
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"config": {}},
        {"support": 2**40},
        {"classes": 7},
    ):
        with ZipFile(damaged, "w") as archive:
            edited = about | {"about": about["about"] | change}
            archive.writestr("about.json", json.dumps(edited))
        assert main(["label", "--from", str(damaged), *arguments]) == 1
        assert str(damaged) in error(capsys)


def test_the_exported_program_runs_alone(labelled, folders, tmp_path):
    pytest.importorskip("flatbuffers")
    program = tmp_path / "program.stablehlo"
    arguments = ["--from", str(labelled / "adapted.npz"), "--export", str(program)]
    assert main(["label", *arguments]) == 0
    about = json.loads((tmp_path / "program.stablehlo.json").read_text())
    assert about["classes"] == sorted(SHOTS) and about["platforms"] == ["cpu", "cuda"]
    assert about["images"].startswith("uint8[n, height, width, 3]")
    assert about["images"].endswith("upright, on white") and about["bits"] is None
    rows = rows_of(labelled / "labels.csv")
    rows = [row for row in rows if float(row["confidence"]) < 1][:5]  # not labelled
    files = [folders / "images" / row["file"] for row in rows]
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    np.save(tmp_path / "images.npy", images)
    script = (
        "import sys, jax, jax.export, numpy as np\n"
        "program = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))\n"
        "images = np.load(sys.argv[2])\n"
        "found = [np.asarray(program.call(images[:n])) for n in (5, 2)]\n"
        "assert np.allclose(found[0][:2], found[1], atol=1e-6)\n"
        "assert not any(name.startswith('metajax') for name in sys.modules)\n"
        "np.save(sys.argv[3], found[0])\n"
    )
    paths = [program, tmp_path / "images.npy", tmp_path / "found.npy"]
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], check=True)
    found = np.load(paths[-1])
    assert np.all(found.sum(1) <= 1 + 1e-5)
    for row, shares in zip(rows, found):
        assert about["classes"][shares.argmax()] == row["label"]
        assert abs(shares.max() - float(row["confidence"])) < 1e-4


def test_labels_are_scored_and_pictures_suggested(labelled, folders, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(folders / "images", images)
    files = [path.relative_to(images).as_posix() for path in images.rglob("*.png")]
    rows = [f"{file},{file.split('/')[-1].split('-')[0]}" for file in files]
    save_as(images / "noise.png", noise(3))
    (truth := tmp_path / "truth.csv").write_text(
        "\n".join(["file,label", *rows, "noise.png,other"])
    )
    learner = load_labeller(labelled / "adapted.npz")
    assert learner.novelty is not None and not learner.novelty.is_guess()
    worse = learner.novelty._replace(least_area=jnp.float32(0.4))
    save(learner._replace(novelty=worse), tmp_path / "guess.npz")
    saved, out = str(tmp_path / "guess.npz"), str(tmp_path / "labels.csv")
    flags = ["--none", "--suggest", "2", "--truth", str(truth)]
    own = ["label", "--from", saved, "--images", str(images), "--out", out]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")  # few pictures may differ from the labelled
        assert main([*own, *flags]) == 0
    guess = "no better than a guess here; leave --none out, or label more"
    assert sum(guess in str(w.message) for w in warned) == 1
    said = capsys.readouterr().out
    assert re.search(r"true accuracy on \d+ pictures of the classes: [\d.]+ %", said)
    assert "AUROC of their novelty: 100.0 %" in said
    assert "1 of 1 pictures of unlabelled classes were labelled none" in said
    assert said.count("label next: ") == 2 and "are labelled, and keep" in said
    table = {row["file"]: row for row in rows_of(tmp_path / "labels.csv")}
    assert table["noise.png"]["label"] == "none"
    assert table["bar-0.png"]["confidence"] == "1.0000"  # a labelled one
    assert main([*own, "--invert"]) == 1
    assert "leave out the run" in error(capsys)
    assert main(["label", "--from", saved, "--suggest", "1", "--save", out]) == 1
    assert "need --images and --out" in error(capsys)


def test_a_saved_labeller_is_of_one_checkpoint(tmp_path, capsys):
    save_as(tmp_path / "images" / "a.png", noise(1))
    files = "--images", str(tmp_path / "images"), "--out", str(tmp_path / "labels.csv")
    assert main(["label", "--from", "saved.npz", "--checkpoint", "best", *files]) == 1
    assert "leave out the run, its data, --checkpoint," in error(capsys)


def test_a_class_called_none_is_refused_at_once(
    prototypical, labelled, folders, tmp_path, capsys
):
    """Before a picture is decoded, and before --save is written."""
    shutil.copytree(folders / "support", tmp_path / "support")
    (tmp_path / "support" / "none").mkdir()
    (tmp_path / "support" / "none" / "0.png").write_bytes(b"unread")
    (tmp_path / "images").symlink_to(folders / "images")
    learner, own = load_labeller(labelled / "adapted.npz"), tmp_path / "none.npz"
    save(learner._replace(classes=("bar", "dot", "none")), own)
    out, kept = tmp_path / "labels.csv", tmp_path / "kept.npz"
    flags = ["--none", "--save", kept]
    assert label(prototypical, tmp_path, out, *flags) == 1
    said = "a class has that name; rename the class, or leave --none out"
    assert error(capsys).endswith(said)
    flags += ["--from", own, "--images", folders / "images", "--out", out]
    assert main(["label", *map(str, flags)]) == 1
    assert error(capsys).endswith(said)
    assert not out.exists() and not kept.exists()


def test_names_that_the_terminal_cannot_show(labelled, folders, tmp_path, monkeypatch):
    learner = load_labeller(labelled / "adapted.npz")
    odd = learner._replace(classes=("caf\udce9", "\u5b57", "pole"))
    save(odd, tmp_path / "odd.npz")
    images, out = folders / "images", tmp_path / "labels.csv"
    arguments = ["--from", tmp_path / "odd.npz", "--images", images, "--out", out]
    monkeypatch.setattr(sys, "argv", ["metajax", "label", *map(str, arguments)])
    said = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", said)
    monkeypatch.setattr("metajax.cli.main.a_device_for_each_core", lambda: None)
    with warnings.catch_warnings():
        assert console() == 0
    said.flush()
    assert rb"24 caf\udce9" in said.buffer.getvalue()
    assert {row["label"] for row in rows_of(out)} == {r"caf\udce9", "\u5b57", "pole"}


@pytest.mark.parametrize("missing", [False, True])
def test_data_that_are_not_at_hand(
    folders, tmp_path, capsys, caplog, monkeypatch, missing
):
    config = replace(PRESETS["omniglot-5w1s-small"], model=Conv4Model(filters=4))
    directory = begun(tmp_path / "run", with_learner(config, "prototypical"))
    why = "are not used (not prepared: metajax data prepare omniglot"
    if missing:
        why = "omniglot needs tensorflow_datasets, which is not installed: pip"
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        builder = "metajax.data.sets.omniglot_builder"
        monkeypatch.delitem(sys.modules, builder, raising=False)
    own = ["--data-dir", str(tmp_path / "nowhere")]
    assert label(directory, folders, tmp_path / "labels.csv", *own) == 0
    assert why in capsys.readouterr().out and not caplog.records
    assert not (tmp_path / "nowhere").exists()


class Page(HTMLParser):
    """What a page loads, links to and says."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.anchors, self.targets, self.said = [], [], [], ""
        self.labels = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        assert tag not in ("link", "iframe", "b")
        assert tag != "script" or "src" not in named
        if "data-file" in named:
            self.labels[named["data-file"]] = named["data-label"]
        self.loaded += [named["src"]] if "src" in named else []
        self.anchors += [named["href"]] if "href" in named else []
        self.targets += ["#" + named["id"]] if tag == "section" else []

    def handle_data(self, data):
        self.said += data


def test_the_page_shows_every_picture(labelled):
    text = (labelled / "page.html").read_text()
    page = Page(text)
    assert text.count('class="coarse"') == 70
    assert len(page.loaded) == 70 + 6  # and three labelled pictures of a class at most
    assert all(s.startswith("data:image/png;base64,") for s in page.loaded)
    assert page.anchors == page.targets and len(page.targets) == 3
    assert "width=device-width" in text
    rows = rows_of(labelled / "labels.csv")
    assert page.labels == {row["file"]: row["label"] for row in rows}
    names = re.search(
        r'<script type="application/json" id="names">(.*?)</script>', text
    )
    assert names is not None and json.loads(names[1]) == sorted(SHOTS)
    for section in text.split("<section")[1:]:
        sure = [int(n) for n in re.findall(r">(\d+)%</span>", section)]
        assert sure == sorted(sure)


def test_a_page_of_too_many_shows_the_least_sure():
    gallery = Gallery(most=3)
    row = partial(Label, label="<b>cat</b>", runner_up="d&g", runner_up_confidence=0)
    for i in range(7):
        image = partial(np.full, (200, 100, 3), i, np.uint8)
        gallery.add(row(file=f"<b>{i}", confidence=((3 * i) % 7) / 10 + 0.2), image)
    refused = [(f"<b>{i}.png", "<b>") for i in range(LISTED + 1)]
    counts = {"<b>cat</b>": 7, "<b>sure": 0}
    page = Page(label_page(gallery, counts, {"from": ("<b>", "two")}, refused))
    assert "the 3 least sure of 7" in page.said and "<b>cat</b>: 7, 3 sh" in page.said
    assert "<b>sure 0" in page.said and "<b>two" in page.said
    assert f"read: {LISTED + 1}, {LISTED} shown" in page.said
    assert re.findall(r"<b>([0-6])\b(?!\.png)", page.said) == ["0", "5", "3"]
    assert len(page.loaded) == 3 and "image/jpeg" in page.loaded[0]
    assert page.labels == dict.fromkeys(["<b>0", "<b>5", "<b>3"], "<b>cat</b>")


def test_pictures_are_seen_as_omniglot_was(tmp_path):
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", drawing(8))
    (tmp_path / "a.png").write_bytes(drawing(8))
    config = PRESETS["omniglot-5w1s"]
    form = format_of(config, bare_task(config))
    seen = form.to_inputs(jnp.asarray(decode(tmp_path / "a.png", form.size, form.mode)))
    with ZipFile(tmp_path / "a.zip") as archive:
        built = omniglot_builder._decode(archive, "a.png")
    np.testing.assert_allclose(seen, built / 255.0, rtol=1e-6)
    config = PRESETS["miniimagenet-5w1s-small"]
    colour = format_of(config, bare_task(config))
    assert colour == ImageFormat((42, 42), "RGB", False)


def test_a_run_of_a_folder_of_colours(tmp_path, capsys):
    colours = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
    for k, (name, colour) in enumerate(colours.items()):
        for i in range(4):
            shade = tuple(c + 10 * i for c in colour)
            write_image(tmp_path / "own" / "validation" / name / f"{i}.jpg", shade)
        write_image(tmp_path / "support" / name / "a.png", colour)
        write_image(tmp_path / "images" / f"{name}{k}.webp", shade, size=(9, 30))
    config = replace(
        PRESETS["miniimagenet-5w1s-small"],
        data=FolderData(size=16),
        model=Conv4Model(filters=4, norm="task"),
        loss="mean",
    )
    config = with_learner(config, "prototypical")
    places = Places(images=tmp_path / "own")
    directory = begun(tmp_path / "run", config, places)
    assert label(directory, tmp_path, tmp_path / "labels.csv") == 0
    assert (
        "not used (they are in a folder of images of yours: give it by"
        in capsys.readouterr().out
    )
    rows = rows_of(tmp_path / "labels.csv")
    assert [row["label"] for row in rows] == ["blue", "green", "red"]
    own = ["--run-images", str(tmp_path / "own"), "--data-dir", str(tmp_path / "kept")]
    assert label(directory, tmp_path, tmp_path / "labels.csv", *own) == 0
    assert "pictures of 10 tasks of the same ways" in capsys.readouterr().out


def test_odd_support_is_warned_of(prototypical, folders, tmp_path, capsys):
    for path in (folders / "support").rglob("*.png"):
        picture = Image.eval(Image.open(path), lambda x: 255 - x)
        save_as(tmp_path / path.relative_to(folders), picture)
    saved = ["--support", str(tmp_path / "support"), "--save", str(tmp_path / "a")]
    (tmp_path / "support" / "star").mkdir()
    with pytest.warns(UserWarning) as warned:
        assert main(["label", str(prototypical), *saved]) == 0
    dark = "mostly dark, and this learner was trained on dark ink"
    empty = f"no pictures in star of {tmp_path / 'support'}, so no class"
    assert str(warned[0].message) == empty and dark in str(warned[1].message)
    assert len(warned) == 2


BESIDE = [name for name, kind in LEARNERS.items() if kind.beside_support]
SMALLEST = replace(
    PRESETS["glyphs"],
    model=Conv4Model(filters=4),
    inner=Maml(rate=0.1),
    evaluation=EvaluatingSteps(steps=1),
)


def taught_by(learner, count=6):
    """Any learner of three classes, untrained, and its support set."""
    config = with_learner(SMALLEST, learner)
    if LEARNERS[learner].searches:
        config = replace(config, model=CellsModel(channels=2, nodes=1, stride=4))
    task, key, body = bare_task(config), KEY, None
    if LEARNERS[learner].pretrained:
        body = body_of(config, task).init(key)
    per_query = build_per_query(config, task, 3, body)
    inputs = jax.random.uniform(key, (count, 28, 28, 1))
    support = Batch(inputs, jnp.arange(count) % 3)
    return config, per_query, body, support


@pytest.mark.parametrize(
    "learner", [name for name, kind in LEARNERS.items() if "classes" in kind.takes]
)
def test_any_learner_is_rebuilt_from_a_file(learner):
    config, per_query, body, support = taught_by(learner)
    meta = jax.eval_shape(per_query.learner.init, KEY)
    adapted = jax.eval_shape(per_query.adapt, meta, support)
    source = maker.rebuild_run(json.loads(json.dumps(config.as_dict())))
    count = len(support.targets)
    arrays = partial(saved._saved_arrays, source, 3, count, False, False)
    like = jax.eval_shape(arrays, source.pretrained)
    own = {"taught": adapted, "backbone": body, "novelty": None}
    assert described(like) == described(own)


@pytest.mark.parametrize("learner", ["maml++", "siamese", "relation", *BESIDE])
def test_any_learner_predicts_each_query_by_itself(learner):
    _, per_query, _, support = taught_by(learner)
    x = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))

    @jax.jit
    def predict(x):
        adapted = per_query.adapt(per_query.learner.init(KEY), support)
        return per_query.logits(adapted, x)

    first, second = predict(x), predict(x.at[1].set(0.0))
    assert first.shape == (2, 3) and not np.allclose(first[1], second[1])
    np.testing.assert_allclose(first[0], second[0], rtol=1e-5, atol=1e-6)


def test_a_backbone_is_saved_with_what_was_taught(tmp_path):
    config, per_query, body, support = taught_by("mtl")
    write_body(file := tmp_path / "backbone.npz", body)
    config = replace(config, inner=replace(config.inner, backbone=str(file)))
    source = image_learner(config)
    assert relative(source.pretrained, body) == 0
    adapted = jax.jit(per_query.adapt)(per_query.learner.init(KEY), support)
    learner = Labeller(source, ("a", "b", "c"), 6, per_query, adapted, 1.0, ())
    save(learner, tmp_path / "first.npz")
    file.unlink()
    images = np.zeros((2, 28, 28, 1), np.uint8)
    save(load_labeller(tmp_path / "first.npz"), tmp_path / "saved.npz")
    again = load_labeller(tmp_path / "saved.npz")
    ours, theirs = (x.probabilities(images) for x in (again, learner))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
