"""Pictures that are labelled as they arrive."""

import csv
import json
import os
import shutil
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metajax.cli.main import main
from metajax.data.folders import tree
from metajax.errors import InputError
from metajax.experiments import watching
from metajax.experiments.interrupt import Stopped
from metajax.experiments.watching import WatchFiles
from metajax.labelling import ImageFormat, ImageLearner, Judgement, Label
from metajax.labelling.writing.appending import labelled_files
from tests.helpers import write_image

BRIGHT, DIM = 250, 5
FORM = ImageFormat((4, 4), "L")


def judged(inputs):
    bright = np.asarray(inputs).mean((1, 2, 3))
    return Judgement(np.stack([1 - bright, bright], 1), 0 * bright)


LABELLER: Any = SimpleNamespace(
    classes=("dim", "bright"),
    source=ImageLearner(lambda *_: pytest.fail("built"), FORM, "means"),
    bits=None,
    contents={},
    judge_inputs=judged,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(folder, monkeypatch):
    """Watches the folder, in which one thing happens after each look at it."""

    def run(out, *happenings):
        steps = iter(happenings)

        def sleep(_):
            step = next(steps, None)
            os.kill(os.getpid(), signal.SIGINT) if step is None else step()

        monkeypatch.setattr(watching.time, "sleep", sleep)
        files = WatchFiles(folder, out)
        files.check()
        with pytest.raises(Stopped) as stopped:
            files.write(LABELLER)
        assert stopped.value.status == 130
        return str(stopped.value)

    # Of a process in the background, which may ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield run
    signal.signal(signal.SIGINT, before)


def nothing():
    pass


def rows_of(out):
    with out.open(newline="", encoding="utf-8") as file:
        if out.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_pictures_are_labelled_once_as_they_arrive(watch, folder, tmp_path, name):
    out = tmp_path / name
    write_image(folder / "first.png", DIM)

    def more():
        assert [row["file"] for row in rows_of(out)] == ["first.png"]  # already
        write_image(folder / "deeper" / "odd\n,name.png", BRIGHT)

    said = watch(out, nothing, more, nothing, nothing)
    assert said == f"2 pictures are labelled in {out}"
    before = out.read_bytes()
    assert [(row["file"], row["label"]) for row in rows_of(out)] == [
        ("first.png", "dim"),
        ("deeper/odd\n,name.png", "bright"),
    ]
    assert watch(out, nothing, nothing).startswith("0 pictures")
    assert out.read_bytes() == before
    write_image(folder / "last.png", DIM)
    assert watch(out, nothing, nothing).startswith("1 pictures")
    assert out.read_bytes().startswith(before)
    assert len(labelled_files(out)) == 3


def test_a_picture_is_taken_once_it_stops_growing(watch, folder, tmp_path):
    write_image(tmp_path / "whole.png", BRIGHT, size=(90, 90))
    content = (tmp_path / "whole.png").read_bytes()
    path, out = folder / "a.png", tmp_path / "a.csv"

    def write(end):
        return lambda: path.write_bytes(content[:end])

    steps = [write(20), write(60), write(None), nothing, nothing]
    assert watch(out, *steps).startswith("1 pictures")
    assert [row["label"] for row in rows_of(out)] == ["bright"]
    assert not (tmp_path / "a.unreadable.csv").exists()


def test_pictures_that_cannot_be_read_are_survived(watch, folder, tmp_path, capsys):
    """They are listed, and tried again once they have changed."""
    out, listed = tmp_path / "a.csv", tmp_path / "a.unreadable.csv"
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "worse.png").write_bytes(b"none either")
    (folder / "broken.png").symlink_to("nowhere")
    write_image(folder / "good.png", DIM)

    def mend():
        assert [row["file"] for row in rows_of(listed)] == ["bad.png", "worse.png"]
        write_image(folder / "bad.png", BRIGHT)
        (folder / "worse.png").unlink()

    watch(out, nothing, nothing, mend, nothing, nothing)
    assert [row["file"] for row in rows_of(out)] == ["good.png", "bad.png"]
    assert not listed.exists()
    said = capsys.readouterr().out
    assert said.count("2 could not be read: listed in") == 1
    assert "good.png: dim 98%" in said and "       1 bright" in said


def test_folders_that_come_and_go_are_survived(watch, folder, tmp_path, monkeypatch):
    """One that cannot be read is warned of once; one that is gone is not."""
    for name in ("a", "gone", "locked"):
        write_image(folder / name / "b.png", DIM)
    listed = tree._entries

    def entries(path):
        if path.name == "gone":
            shutil.rmtree(path, ignore_errors=True)
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(tree, "_entries", entries)

    def unlock():
        monkeypatch.setattr(tree, "_entries", listed)

    out = tmp_path / "a.csv"
    with pytest.warns(UserWarning, match="locked cannot be read .* allow") as warned:
        watch(out, nothing, nothing, unlock, nothing, nothing)
    assert len(warned) == 1
    assert [row["file"] for row in rows_of(out)] == ["a/b.png", "locked/b.png"]


def test_a_folder_that_goes_is_looked_for_again(watch, folder, tmp_path):
    def leave():
        folder.rename(tmp_path / "away")

    def write():
        (tmp_path / "away").rename(folder)
        write_image(folder / "a.png", DIM)

    with pytest.warns(UserWarning, match="in cannot be read .No such file"):
        said = watch(tmp_path / "a.csv", leave, write, nothing, nothing)
    assert said.startswith("1 pictures")


@pytest.mark.parametrize("bits, label", [(None, "dim"), (12, "bright")])
def test_no_label_depends_on_what_arrives_with_a_picture(
    watch, folder, tmp_path, bits, label, monkeypatch
):
    """Samples of 12 bits look dim at 16, the depth without labelled ones to tell."""
    monkeypatch.setattr(LABELLER, "bits", bits)
    rows = []
    for together in (False, True):
        for path in folder.iterdir():
            path.unlink()
        Image.fromarray(np.full((4, 4), 4000, np.uint16)).save(folder / "a.png")
        if together:
            Image.fromarray(np.full((4, 4), 65000, np.uint16)).save(folder / "b.png")
        out = tmp_path / f"{together}.csv"
        warned = pytest.warns(UserWarning, match=f"read as {bits or 16}-bit, or as")
        with warned if together == bool(bits) else nullcontext():
            watch(out, nothing, nothing)
        rows.append(next(row for row in rows_of(out) if row["file"] == "a.png"))
    assert rows[0] == rows[1] and rows[0]["label"] == label


def test_a_row_that_was_cut_off_is_labelled_again(watch, folder, tmp_path):
    out = tmp_path / "a.csv"
    for name in ("1.png", "2.png"):
        write_image(folder / name, DIM)
    watch(out, nothing, nothing)
    whole = out.read_bytes()
    out.write_bytes(whole[:-9])
    watch(out, nothing, nothing)
    assert out.read_bytes() == whole


def test_tables_of_others_are_spared(folder, tmp_path):
    def refused(name, content=None):
        out = tmp_path / name
        if content is not None:
            out.write_text(content)
        with pytest.raises(InputError) as caught:
            WatchFiles(folder, out).check()
        return str(caught.value)

    head = ",".join(Label._fields)
    assert "CSV (.csv) or JSON lines (.jsonl), got" in refused("a.txt")
    assert "a table, and not one of this" in refused("a.csv", "file,label\nx,y\n")
    assert "its columns are not file, label" in refused("a.csv", f"{head},more\n")
    said = refused("a.csv", f'{head}\n"a\n.png,x,1,y,0\n')
    assert "labels cannot be added to" in said and "choose another" in said
    row = '{"file": "a", "label": "b", "confidence": 1}\n'
    assert "its lines do not hold file" in refused("a.jsonl", row)
    with pytest.raises(InputError, match="--watch: expected a folder of images at"):
        WatchFiles(tmp_path / "no", tmp_path / "b.csv").check()


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--out", "a.csv", "--html", "a.html"], "--html is not for --watch"),
        (["--out", "a.csv", "--label-studio", "a"], "--label-studio is not for --w"),
        ([], "--watch needs --out"),
    ],
)
def test_what_does_not_grow_is_refused(folder, tmp_path, capsys, flags, said):
    assert main(["label", "--from", "x", "--watch", str(folder), *flags]) == 1
    assert said in capsys.readouterr().err


def test_names_that_are_not_text_are_known_again(watch, folder, tmp_path):
    try:
        write_image(folder / "caf\udce9.png", DIM)
    except OSError:
        pytest.skip("the disk takes text only")
    Image.new("L", (3, 3)).save(folder / "b.png")
    out = tmp_path / "a.csv"
    assert watch(out, nothing, nothing).startswith("2 pictures")
    assert watch(out, nothing, nothing).startswith("0 pictures")
