"""A run knows its data: what is recorded, refused, warned of and kept apart."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from metajax.cli.main import main
from metajax.data.sets import omniglot_builder
from metajax.errors import InputError
from metajax.experiments import run
from metajax.experiments.backbone import BEST
from metajax.experiments.families import FolderData, OmniglotData
from metajax.experiments.labelled import bare_task, own_validation_tasks
from metajax.experiments.owned import run_of
from metajax.experiments.presets import PRESETS
from metajax.experiments.publishing import publish
from metajax.experiments.record import FILE, examples, keep_data
from metajax.experiments.tasks import Places
from metajax.labelling.trust import predictions
from tests.helpers import SMALL, small_parts, write_archives, write_image

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

SPLITS = "train", "val", "test"
FLAGS = [
    *("--learner", "prototypical", "--data.ways", "3", "--data.size", "16"),
    *("--data.queries", "2", "--model.filters", "2", "--outer.steps", "2"),
    *("--outer.tasks", "2", "--evaluation.tasks", "4", "--evaluation.queries", "2"),
]


def fill(folder, seed=0):
    """Three classes a split, of four images, no two of them alike."""
    for i, split in enumerate(SPLITS):
        for j in range(3):
            for k in range(4):
                colour = (40 * seed + 10 * i, 20 * j, 5 * k)
                write_image(folder / split / f"{split}{j}" / f"{k}.png", colour, (9, 9))
    return folder


def tables(folder, swapped=False):
    """The same as tables; the labels of two files may be swapped."""
    for split in SPLITS:
        rows = [f"{split}{j}-{k}.png,{split}{j}" for j in range(3) for k in range(4)]
        for j in range(3):
            for k in range(4):
                name = f"{split}{j}-{k}.png"
                write_image(folder / "images" / name, (len(split), 20 * j, 5 * k))
        if swapped:
            rows[0], rows[-1] = f"{split}0-0.png,{split}2", f"{split}2-3.png,{split}0"
        (folder / f"{split}.csv").write_text("\n".join(["filename,label", *rows]))
    return folder


def task_at(folder, tmp_path, *, stream=False):
    places = Places(images=folder, data_dir=tmp_path / "data", stream=stream)
    return FolderData(ways=3, size=8).build(places)


def train(directory, images, data, command="train"):
    flags = ["--run-dir", str(directory), "--images", str(images)]
    return main([command, "miniimagenet-5w1s", *FLAGS, *flags, "--data-dir", str(data)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run and its data, which stay as they are."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "VALIDATION_TASKS", 2)
        images = fill(folder / "images")
        assert train(folder / "run", images, folder / "data") == 0
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def bytes_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_record_of_its_data_is_the_runs_own(whole):
    written = [path for path in (whole / "run").rglob("*") if path.is_file()]
    assert whole / "run" / "data.json" in written
    assert {run_of(path) for path in written} == {(whole / "run").resolve()}


def test_a_longer_run_renames_what_was_measured_alone(tmp_path):
    config, folder = PRESETS["glyphs"], tmp_path / "run"
    short = replace(config, outer=replace(config.outer, steps=4))
    run.claim(folder, short)
    (folder / "study-birds").mkdir()
    for name in ("evaluation.txt", "adaptation.png", "study-birds/report.html"):
        (folder / name).touch()
    (folder / "evaluation-on-two-step-jump-0a1b2c3d.json").touch()
    (folder / "evaluation-test-10tasks-step2-birds-0a1b2c3d.json").touch()
    for mine in ("study-notes.txt", "adaptation.tex"):
        (folder / mine).touch()
    run.lengthen(folder, config)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.json", "evaluation-step4.txt", "adaptation-step4.png"),
        *("study-birds-step4", "study-notes.txt", "adaptation.tex"),
        "evaluation-on-two-step-jump-0a1b2c3d-step4.json",
        "evaluation-test-10tasks-step2-birds-0a1b2c3d.json",
    }


def test_other_data_never_replace_the_result(copied, tmp_path, capsys):
    directory, other = copied / "run", fill(tmp_path / "other", seed=1)
    before = bytes_of(directory)
    own = json.loads((directory / "evaluation.json").read_text())["protocol"]
    assert own["meta_step"] == 2 and len(own["data_digest"]) == 32
    shutil.rmtree(other / "train")  # only what is measured must be there
    places = ["--images", str(other), "--data-dir", str(copied / "data")]
    for more in ([], ["--stream"]):
        assert main(["evaluate", str(directory), *places, *more]) == 0
    said = capsys.readouterr().err
    assert f"warning: {other} is not the data of {directory}: " in said
    assert bytes_of(directory).items() >= before.items()
    digest = own["data_digest"]
    (written,) = directory.glob("evaluation-test-*-other-*.json")
    protocol = json.loads(written.read_text())["protocol"]
    assert protocol["data_folder"] == str(other) and protocol["data_digest"] != digest
    assert written.stem.endswith(protocol["data_digest"][:8])


def test_a_published_run_knows_its_data(copied, tmp_path):
    path, images = tmp_path / "out.safetensors", copied / "images"
    publish(copied / "run", path)
    task = task_at(images, copied)
    assert examples(path, task, "test") == examples(copied / "run", task, "test")
    fill(images, seed=1)
    data = examples(path, task_at(images, copied), "test")
    assert data.why == f"{images} is not the data of {path}: its digest is another"
    assert data.foreign and data.named
    assert "test0/0.png" in (copied / "run" / FILE).read_text()
    for name in (path, tmp_path / "out.md"):
        assert b"test0/0.png" not in name.read_bytes()


def replaced(folder):
    """Another picture of the same size and time."""
    path = folder / "test/test0/0.png"
    was, times = path.read_bytes(), path.stat()
    path.write_bytes(was[:-1] + bytes([was[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "test: 1 changed, such as test/test0/0.png": replaced,
    "train: 1 added, such as train/train0/9.png": lambda folder: write_image(
        folder / "train/train0/9.png", 99
    ),
    "validation: 1 removed, such as val/val0/3.png": lambda folder: (
        folder / "val/val0/3.png"
    ).unlink(),
    "1 removed, such as test/test0/3.png, 1 added, such as test/test0/9.png": (
        lambda folder: (folder / "test/test0/3.png").rename(folder / "test/test0/9.png")
    ),
    "4 removed, such as train/train0/0.png, 4 added, such as train/x/0.png": (
        lambda folder: (folder / "train/train0").rename(folder / "train/x")
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("told", CHANGES)
def test_a_run_goes_on_only_with_the_files_that_it_began_with(tmp_path, told, stream):
    folder, directory = fill(tmp_path / "images"), tmp_path / "run"
    directory.mkdir()
    keep_data(directory, task_at(folder, tmp_path))
    kept = (directory / FILE).read_bytes()
    moved = folder.rename(tmp_path / "moved")
    keep_data(directory, task_at(moved, tmp_path, stream=stream))  # the same files
    CHANGES[told](moved)
    with pytest.raises(InputError, match=f"other data than {moved}") as caught:
        keep_data(directory, task_at(moved, tmp_path, stream=stream))
    assert told in str(caught.value) and "--run-dir" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (directory / FILE).read_bytes() == kept


def test_the_command_refuses_other_data(copied, tmp_path, capsys):
    """And takes the same elsewhere; a run of other data is left as it is."""
    before = bytes_of(copied / "run")
    other = fill(tmp_path / "other", seed=1)
    assert train(copied / "run", other, copied / "data") == 1
    errors = [s for s in capsys.readouterr().err.splitlines() if "error: " in s]
    assert len(errors) == 1 and "is a run of other data than" in errors[0]
    moved = (copied / "images").rename(tmp_path / "moved")
    assert train(copied / "run", moved, copied / "data") == 0
    assert "is finished" in capsys.readouterr().out
    assert bytes_of(copied / "run") == before


def test_a_table_that_was_changed(tmp_path):
    folder, directory = tables(tmp_path / "images"), tmp_path / "run"
    directory.mkdir()
    keep_data(directory, task_at(folder, tmp_path))
    keep_data(directory, task_at(folder, tmp_path))
    tables(folder, swapped=True)
    with pytest.raises(InputError, match="train: 2 removed.* 2 added"):
        keep_data(directory, task_at(folder, tmp_path))


def test_one_table_in_place_of_the_folder(tmp_path):
    table, directory = tmp_path / "birds.csv", tmp_path / "run"
    rows = []
    for split in SPLITS:
        for i in range(12):
            write_image(tmp_path / "images" / f"{split}{i}.png", (len(split), 9 * i, 0))
            rows.append(f"{split}{i}.png,{split}{i % 3},{split}")
    table.write_text("\n".join(["filename,label,split", *rows]))
    directory.mkdir()
    keep_data(directory, task_at(table, tmp_path))
    known = json.loads((directory / FILE).read_text())["splits"]
    assert "images/train0.png" in known["train"]["train0"]
    keep_data(directory, task_at(table, tmp_path))
    write_image(tmp_path / "images" / "train0.png", 9)
    with pytest.raises(InputError, match="1 changed, such as images/train0.png"):
        keep_data(directory, task_at(table, tmp_path))


def test_a_run_that_recorded_nothing(copied, capsys):
    """As one of an earlier version: it is said, and recorded from now on."""
    directory, images = copied / "run", copied / "images"
    (directory / FILE).unlink()
    before = bytes_of(directory)
    places = ["--images", str(images), "--data-dir", str(copied / "data")]
    assert main(["evaluate", str(directory), *places]) == 0
    assert "did not record its test data; metajax train does" in capsys.readouterr().err
    assert bytes_of(directory).items() >= before.items()
    assert train(directory, images, copied / "data") == 0
    said = capsys.readouterr()
    assert "did not record its data; it is taken to have been" in said.err
    assert "is finished" in said.out and (directory / FILE).exists()


def test_a_run_that_begins_records_without_a_word(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    task = task_at(fill(tmp_path / "images"), tmp_path)
    keep_data(tmp_path / "run", task, ["train"])  # as pretraining does
    keep_data(tmp_path / "run", task)
    assert "warning" not in capsys.readouterr().err
    splits = json.loads((tmp_path / "run" / FILE).read_text())["splits"]
    assert list(splits) == ["train", "validation", "test"]


@pytest.mark.parametrize("content", ["", "[", "[]", '{"splits": {"test": {"a": 1}}}'])
def test_a_damaged_record(tmp_path, content):
    task = task_at(fill(tmp_path / "images"), tmp_path)
    (tmp_path / FILE).write_text(content)
    for call in (
        lambda: keep_data(tmp_path, task),
        lambda: examples(tmp_path, task, "test"),
    ):
        with pytest.raises(InputError, match="is damaged .*; delete it, and metajax"):
            call()


def test_pretraining_records_its_classes(tmp_path, capsys):
    images = fill(tmp_path / "images")
    shutil.rmtree(images / "val"), shutil.rmtree(images / "test")
    given = tmp_path / "run", images, tmp_path / "data"
    assert train(*given, command="pretrain") == 0
    (images / "train/train0/0.png").unlink()
    assert train(*given, command="pretrain") == 1
    assert "train: 1 removed, such as train/train0/0.png" in capsys.readouterr().err


def test_what_splits_share_is_warned_of(tmp_path, capsys):
    folder = fill(tmp_path / "images")
    shutil.copytree(folder / "train/train0", folder / "test/train0")
    (tmp_path / "run").mkdir()
    keep_data(tmp_path / "run", task_at(folder, tmp_path))
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "warning: test shares with train 1 class name, such as train0",
        "warning: test shares with train 4 pictures, such as test/train0/0.png, which "
        "is train/train0/0.png there",
    ]
    # Of other data, by the training data that were recorded.
    other = fill(tmp_path / "other", seed=1)
    shutil.copy(folder / "train/train1/2.png", other / "test/test0/8.png")
    data = examples(tmp_path / "run", task_at(other, tmp_path), "test")
    assert data.foreign
    assert "test shares with the run's training data 1 picture, such as" in (
        capsys.readouterr().err
    )


def test_a_body_that_was_trained_on_test_classes_is_warned_of(tmp_path, capsys):
    folder = fill(tmp_path / "images")
    for name in ("body", "run", "other"):
        (tmp_path / name).mkdir()
    keep_data(tmp_path / "body", task_at(folder, tmp_path), ["train"])
    for place in (tmp_path / "body", tmp_path / "body" / "backbone.npz"):
        keep_data(tmp_path / "run", task_at(folder, tmp_path), body=place)
    assert "warning" not in capsys.readouterr().err
    (folder / "test").rename(folder / "aside")
    (folder / "train").rename(folder / "test")
    (folder / "aside").rename(folder / "train")
    keep_data(tmp_path / "other", task_at(folder, tmp_path), body=tmp_path / "body")
    said = capsys.readouterr().err
    assert "test shares with the body's training data 3 class names, such as" in said
    assert "test shares with the body's training data 12 pictures, such as" in said


def test_a_body_that_was_chosen_by_test_classes_is_warned_of(tmp_path, capsys):
    folder = fill(tmp_path / "images")
    for name in ("body", "run", "other"):
        (tmp_path / name).mkdir()
    best, last = (tmp_path / "body" / name for name in (BEST, "backbone.npz"))
    task = task_at(folder, tmp_path)
    keep_data(tmp_path / "body", task, ["train", "validation"])
    keep_data(tmp_path / "run", task, body=best)
    assert "warning" not in capsys.readouterr().err
    (folder / "test").rename(folder / "aside")
    (folder / "val").rename(folder / "test")
    (folder / "aside").rename(folder / "val")
    task = task_at(folder, tmp_path)
    keep_data(tmp_path / "other", task, body=last)
    assert "warning" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "other"), (tmp_path / "other").mkdir()
    keep_data(tmp_path / "other", task, body=best)
    said = capsys.readouterr().err
    assert "test shares with the data that the body was chosen by 3 class names" in said


def test_labels_are_calibrated_by_the_runs_own_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predictions, "PREDICTIONS", 6)
    directory, images = tmp_path / "run", fill(tmp_path / "images")
    directory.mkdir()
    config = replace(PRESETS["miniimagenet-5w1s"], data=FolderData(ways=3, size=8))
    places = Places(images=images, data_dir=tmp_path / "data")

    def tasks(where):
        return own_validation_tasks(directory, config, where, [1, 1]).tasks

    assert tasks(places) == 10
    assert "is taken to be its own" in capsys.readouterr().err
    keep_data(directory, config.data.build(places))
    assert tasks(places) == 10
    assert "warning" not in capsys.readouterr().err
    other = replace(places, images=fill(tmp_path / "other", seed=1))
    with pytest.raises(InputError, match="is not the data of"):
        tasks(other)


def test_prepared_data_of_other_archives(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    tasks = []
    for name, added in (("own", 0), ("other", 1)):
        changed = {
            part: names[::-1] if added else names for part, names in SMALL.items()
        }
        monkeypatch.setattr(omniglot_builder, "PARTS", small_parts(changed))
        archives = write_archives(tmp_path / name / "archives", changed)
        places = Places(archives=archives, data_dir=tmp_path / name / "data")
        tasks.append(OmniglotData(ways=2).build(places))
    keep_data(tmp_path, tasks[0])
    assert not examples(tmp_path, tasks[0], "train").why
    assert examples(tmp_path, tasks[1], "train").foreign
    with pytest.raises(InputError, match="train: . changed, such as images"):
        keep_data(tmp_path, tasks[1])


def test_what_is_computed_has_no_record(tmp_path):
    task = bare_task(PRESETS["glyphs"])
    keep_data(tmp_path, task)
    assert not list(tmp_path.iterdir())
    assert examples(tmp_path, task, "test").suffix == ""
