"""What `metajax label` writes takes the place of nothing that it should not."""

import os
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metajax.cli.main import _warn
from metajax.data.pictures.unlabelled import Unreadable
from metajax.errors import InputError
from metajax.experiments import label_outputs
from metajax.experiments.dense_outputs import DenseFiles
from metajax.experiments.label_outputs import (
    LIST,
    LabelFiles,
    unreadable_list,
    write_unreadable,
)
from metajax.experiments.watching import WatchFiles
from metajax.labelling import FolderLabels, Label, boxes
from metajax.labelling.dense.boxes import HEAD
from metajax.labelling.folder import _common_bits
from metajax.labelling.writing.links import MARK
from tests.helpers import write_image

HEADER = "file,label,confidence,runner_up,runner_up_confidence,novelty\n"


@pytest.fixture
def images(tmp_path):
    write_image(tmp_path / "images" / "1.png", 9)
    return tmp_path / "images"


def refused(**files):
    with pytest.raises(InputError) as caught:
        LabelFiles(**files).check()
    return str(caught.value)


def test_links_and_pipes_will_do(tmp_path, images):
    (tmp_path / "link").symlink_to("real.csv")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        found = LabelFiles(images, tmp_path / name, html=tmp_path / "a.html").check()
        assert found.names == ["1.png"]


def test_one_file_by_two_names_is_refused(tmp_path, images):
    (tmp_path / "link").symlink_to("a.csv")
    (tmp_path / "folder").symlink_to(".")
    for other in ("link", "folder/a.csv"):
        said = refused(images=images, out=tmp_path / "a.csv", html=tmp_path / other)
        assert "--out and --html must be different files" in said


def test_what_is_no_file_is_named(tmp_path, images):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "away").symlink_to(tmp_path / "no" / "a")
    assert "leads back to itself" in refused(images=images, out=tmp_path / "loop")
    assert "--save is in" in refused(save=tmp_path / "away")
    assert "--out must be a file" in refused(images=images, out=images)


@pytest.mark.parametrize("name", ["images/1.png", "link", "hidden.csv"])
def test_pictures_are_spared(tmp_path, images, name):
    (tmp_path / "link").symlink_to("images/1.png")
    (tmp_path / "hidden.csv").write_bytes((images / "1.png").read_bytes())
    for flag in ("out", "save"):
        files = {"images": images, "out": tmp_path / "o", flag: tmp_path / name}
        said = refused(**files)
        assert f"--{flag} would be written over" in said and "a picture" in said


def test_tables_of_labels_are_spared(tmp_path, images):
    table = tmp_path / "train.csv"
    table.write_text("label, filename\nx,1.png\n")
    assert "a table, and not one of this" in refused(images=images, out=table)
    for other in ("filename,label,confidence\n", "photo,breed\n", "\n\nfile,label\n"):
        table.write_text(other)
        assert "a table, and not one of this" in refused(images=images, out=table)
    for own in (HEADER, ""):
        table.write_text(own)
        LabelFiles(images, table).check()  # an earlier result


def test_what_is_labelled_from_is_spared(tmp_path, images):
    (tmp_path / "a.npz").write_bytes(b"x")
    (tmp_path / "link").symlink_to("a.npz")
    for name in ("a.npz", "link"):
        said = refused(save=tmp_path / name, read=[("--from", tmp_path / "a.npz")])
        assert "which is read: it is given by --from; choose another name" in said


def test_labels_that_are_read_are_spared(tmp_path, images):
    """Also a table that this command wrote, and that somebody has corrected."""
    table = tmp_path / "labels.csv"
    table.write_text(f"{HEADER}\n1.png,cat,1.0,dog,0.0,0.1\n")
    for flag in ("out", "html"):
        files = {"images": images, "out": tmp_path / "o.csv", flag: table}
        LabelFiles(**files).check()
        said = refused(**files, read=[("--support", table)])
        assert f"--{flag} would be written over" in said and "by --support" in said
        assert "given by --truth" in refused(**files, truth=table)
    with pytest.raises(InputError, match="given by --support"):
        WatchFiles(images, table, read=[("--support", table)]).check()
    (tmp_path / "links" / "cat").mkdir(parents=True)
    (tmp_path / "links" / MARK).touch()
    files = {"images": images, "others": {"--links": tmp_path / "links"}}
    LabelFiles(**files).check()
    for place in ("links", "links/cat"):  # whose links somebody has moved
        said = refused(**files, read=[("--support", tmp_path / place)])
        assert "--links would be written over" in said and "by --support" in said
    assert "given by --truth" in refused(**files, truth=tmp_path / "links")
    (annotations := tmp_path / "annotations.json").write_text(HEAD)
    kind = boxes(lambda outputs: outputs, most=1)
    DenseFiles(kind, images, tmp_path / "other", annotations).check()
    other = tmp_path / "b.json"
    for flag, paths in {"boxes": [annotations], "html": [other, annotations]}.items():
        with pytest.raises(InputError, match=f"--{flag} would be .* by --support"):
            DenseFiles(kind, images, tmp_path, *paths).check()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    return tmp_path / "run"


OF_A_RUN = [
    *("config.json", "data.json", "metrics.jsonl", "backbone.npz", ".lock"),
    *("evaluation.json", "evaluation-test-1steps.txt", "evaluation.unfinished.npz"),
    *("learning_curve.png", "checkpoints/1/state/d/x", "checkpoints-damaged/1-x/1/m"),
    *("best/1/manifest", "events/e", "study/report.html", "study-step3/a.svg"),
]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_run_is_spared(tmp_path, images, run, name, there):
    """Whether or not it is the run that labels, and by a link too."""
    (tmp_path / "link").symlink_to(run / name)
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    if there:
        (run / name).write_text("{}")
    for path in (run / name, tmp_path / "link"):
        assert "a file of the run in" in refused(images=images, out=path)
        assert "a file of the run in" in refused(save=path)


def test_names_that_follow_from_others_spare_a_run(images, run):
    pytest.importorskip("flatbuffers")
    said = refused(export=run / "config")  # its classes are in config.json
    assert "the classes of --export would be written over" in said
    said = refused(images=images, out=run / "evaluation.csv")
    assert "a file of the run in" in said


def test_labels_go_beside_a_run_again_and_again(images, run):
    files = LabelFiles(images, run / "labels.csv", run / "page.html", run / "best.npz")
    for _ in range(2):
        files.check()
        for path in (files.out, files.html, files.save):
            assert path is not None
            path.write_text(HEADER)
    (run / "labels").mkdir()
    LabelFiles(images, run / "labels" / "data.csv").check()
    (run / "config.json").unlink()
    LabelFiles(save=run / "data.json").check()  # of no run


def test_the_list_beside_the_labels_takes_no_file_of_others(tmp_path, images):
    out, beside = tmp_path / "a.csv", tmp_path / "a.unreadable.csv"
    assert unreadable_list(out) == beside
    beside.write_text("mine\n")
    assert f"{LIST} would be written over" in refused(images=images, out=out)
    beside.write_text("file,reason\nx.png,it is empty\n")
    LabelFiles(images, out).check()


def test_an_earlier_list_goes_and_a_link_stays(tmp_path, capsys):
    path = tmp_path / "a.unreadable.csv"
    write_unreadable(path, [Unreadable("x.png", "it is empty")])
    assert path.read_text() == "file,reason\nx.png,it is empty\n"
    assert "1 could not be read: listed in" in capsys.readouterr().out
    write_unreadable(path, [])
    assert not path.exists()
    path.symlink_to("real")
    write_unreadable(path, [])
    assert path.is_symlink() and not path.exists()
    (tmp_path / "real").write_text("file,reason\nx.png,it is empty\n")
    write_unreadable(path, [])
    assert path.is_symlink() and path.read_text() == "file,reason\n"
    assert capsys.readouterr().out == ""


def test_beside_a_pipe_there_is_no_list(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert unreadable_list(tmp_path / "pipe") is None
    with pytest.warns(UserWarning, match="x.png it is empty"):
        write_unreadable(None, [Unreadable("x.png", "it is empty")])
    assert os.listdir(tmp_path) == ["pipe"]


def test_labels_through_a_pipe(tmp_path, images, monkeypatch):
    """The whole of `write`, but for the learner."""
    os.mkfifo(tmp_path / "pipe")
    label = Label("1.png", "cat", 0.75, "dog", 0.25)
    monkeypatch.setattr(FolderLabels, "__iter__", lambda _: iter([label]))
    said = []
    reader = threading.Thread(
        target=lambda: said.append((tmp_path / "pipe").read_text())
    )
    reader.start()
    files = LabelFiles(images, tmp_path / "pipe")
    source = SimpleNamespace(name="maml")
    labeller: Any = SimpleNamespace(classes=(), contents={}, source=source)
    files.write(labeller, files.check())
    reader.join(10)
    assert (
        said == [HEADER + "1.png,cat,0.7500,dog,0.2500,0.0000\n"]
        and (tmp_path / "pipe").is_fifo()
    )


def test_what_is_said_makes_way_for_what_is_written(tmp_path, images, monkeypatch):
    monkeypatch.setattr(label_outputs, "is_stdout", lambda path: path.name == "out")
    with LabelFiles(images, tmp_path / "out").stdout_apart():
        assert sys.stdout is sys.stderr
    with LabelFiles(images, tmp_path / "other").stdout_apart():
        assert sys.stdout is not sys.stderr


def test_pictures_are_read_at_the_depth_of_those_that_taught(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(4, 6) * 40
    for name, scale in {"dim": 1, "bright": 4}.items():
        Image.fromarray(values * scale).save(tmp_path / f"{name}.png")
    with pytest.warns(UserWarning, match="1 16-bit image is read as 12-bit"):
        assert _common_bits(12, tmp_path, ["dim.png"]) == 12
    with pytest.warns(UserWarning) as said:
        assert _common_bits(10, tmp_path, ["dim.png", "bright.png"]) == 12
    assert "use 12 bits, and the labelled ones were read as 10-bit" in str(
        said[1].message
    )
    assert _common_bits(None, tmp_path, []) is None


def test_a_warning_is_one_line(capsys):
    _warn("images of odd\nname.png are passed over")
    assert capsys.readouterr().err == (
        "warning: images of odd name.png are passed over\n"
    )
