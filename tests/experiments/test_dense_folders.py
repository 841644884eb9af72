"""Families of the user's own pictures with masks or boxes, and their runs."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.experiments import run
from metajax.experiments.build import build_task
from metajax.experiments.families import CocoFolderData, MaskFolderData
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Places
from tests.dense_folders import write_boxes, write_masks
from tests.helpers import FILES

pytestmark = pytest.mark.usefixtures("relaxed")

SPLITS = {"train": ("red", "green"), "val": ("blue", "grey"), "test": ("grey", "blue")}
KINDS = {"masks": (MaskFolderData, write_masks), "boxes": (CocoFolderData, write_boxes)}
SMALL = [
    *("--data.ways", "2", "--data.size", "16", "--data.train-ways", "2"),
    *("--model.widths", "8", "8", "--outer.steps", "1", "--outer.tasks", "2"),
    *("--evaluation.tasks", "2"),
]


def write(kind, folder):
    for k, (split, names) in enumerate(SPLITS.items()):
        KINDS[kind][1](folder / split, names, first=10 * k)
    return folder


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def places_of(folder, **more):
    return Places(images=folder, data_dir=folder / "kept", **more)


def test_streamed_episodes_are_those_in_memory(tmp_path, kind):
    write(kind, tmp_path)
    family = KINDS[kind][0](2, size=16)
    drawn = []
    for stream in (False, True):
        task = family.build(places_of(tmp_path, stream=stream))
        drawn.append(task.episodes("validation", 1)(jax.random.key(0), 3))
    assert drawn[0].query.inputs.shape == (3, 2, 16, 16, 3) and task.kind == kind
    jax.tree.map(np.testing.assert_array_equal, *drawn)


def test_the_record_has_every_file_and_class(tmp_path, kind):
    write(kind, tmp_path)
    source = KINDS[kind][0](2, size=16).build(places_of(tmp_path)).source
    before = source.contents("test")
    assert {*SPLITS["test"]} <= before.keys()
    assert "test/images/grey20.png" in before["images of test"]
    (KINDS[kind][1])(tmp_path / "test", SPLITS["test"], first=20, size=(48, 40))
    after = source.contents("test")
    assert after["labels of test"] != before["labels of test"]
    assert source.contents("train") == source.contents("train")


def test_small_classes_are_left_out(tmp_path, kind, capsys):
    write(kind, tmp_path)
    KINDS[kind][1](tmp_path / "train", ("red", "green", "blue"), (4, 4, 1))
    family = KINDS[kind][0](2, queries=2, size=16)
    config = replace(PRESETS[f"{kind}-folder-3w1s"], data=family)
    with pytest.raises(InputError, match=r"blue has 1 of 3.*--data.drop-small-classes"):
        build_task(config, places_of(tmp_path)).episodes("train", 2)
    family = replace(family, drop_small_classes=True)
    sampler = family.build(places_of(tmp_path)).episodes("train", 2)
    assert len(sampler.members.counts) == 2
    assert (
        "1 of 3 classes of the train images are in too few" in capsys.readouterr().err
    )


def test_what_is_refused(tmp_path, kind, capsys):
    def error(*more):
        command = ["train", f"{kind}-folder-3w1s", "--run-dir", str(tmp_path / "run")]
        assert main([*command, "--data-dir", str(tmp_path / "kept"), *more]) == 1
        lines = capsys.readouterr().err.splitlines()
        return "".join(line for line in lines if line.startswith("error: "))

    assert "expected --images DIR, the folder that holds train" in error()
    own = "--images", str(tmp_path / "own")
    assert "expected a folder of images at" in error(*own)
    (tmp_path / "own").mkdir()
    assert "no train split in" in error(*own)
    write(kind, tmp_path / "own")
    assert "--data.ways must be at most the number of classes, 2, got 3" in error(*own)
    assert "--columns is not for a folder of images and" in error("--columns", "file=a")
    two = "--data.ways", "2", "--data.queries", "9"
    assert "need" in (said := error(*own, *two)) and "9 --data.queries" in said
    assert not (tmp_path / "run").exists()


def test_a_run_of_a_folder(tmp_path, kind, monkeypatch, capsys):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    folder = write(kind, tmp_path / "own")
    command = ["train", f"{kind}-folder-3w1s", "--images", str(folder), *SMALL]
    command += ["--data-dir", str(tmp_path / "kept"), "--run-dir", str(tmp_path / "a")]
    stride = ["--data.stride", "4"] if kind == "boxes" else []
    assert main([*command, *stride]) == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == FILES | {"data.json"}
    said = capsys.readouterr().err
    assert "warning: test shares with validation 2 class names, such as blue" in said
    record = json.loads((tmp_path / "a" / "data.json").read_text())
    assert record["splits"].keys() == {"train", "validation", "test"}
    assert main([*command, *stride, "--stream"]) == 0  # finished, whichever way
