"""A run as one file: it holds what the run does, and no other file is taken for one."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from metajax._files.safetensors import read_safetensors, read_texts, write_safetensors
from metajax.cli.main import main
from metajax.cli.starting import read_config
from metajax.errors import InputError
from metajax.evaluation.result import Evaluation, Score
from metajax.experiments import published, results, run
from metajax.experiments.backbone import FILE, digest, keep_body, write_body
from metajax.experiments.build import bare_task, build_learner
from metajax.experiments.config import CONFIG, changed
from metajax.experiments.labelled import body_of, image_learner, teach_run
from metajax.experiments.networks import BackboneModel
from metajax.experiments.presets import PRESETS
from metajax.experiments.published import HASH, read_published
from metajax.experiments.publishing import publish
from metajax.experiments.restoring import checkpoints_of, configured, restored
from metajax.experiments.study import study_run
from metajax.experiments.tasks import Places
from metajax.metrics import accuracy
from metajax.training.averaging import averaged
from metajax.training.state import init_state
from tests.helpers import KEY, write_image
from tests.models.backbones.seeded import write_network

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

SMALL = {
    "learner": "prototypical",
    "model": {"filters": 2},
    "outer": {"steps": 2, "average": 0.9},
    "evaluation": {"tasks": 2, "queries": 2, "inductive_queries": 0},
}
CONFIGURED = changed(PRESETS["glyphs"], SMALL)


def made(directory, config=CONFIGURED, body=None):
    """A run as training leaves it, untrained."""
    run.claim(directory, config)
    if body is not None:
        keep_body(body, directory)
    learner = build_learner(configured(directory), bare_task(config))
    state = init_state(learner, config.build_optimizer(), KEY)
    step = config.outer.steps
    checkpoints_of(directory).save(state._replace(step=np.int32(step)))
    facts = {"metric": "accuracy", "meta_step": step, "data_folder": "/home/me/birds"}
    score = Score(np.array([0.5]), np.array([0.1]))
    evaluation = Evaluation(score, score, facts, accuracy)
    results._write(directory, results.OWN, evaluation)
    return directory


@pytest.fixture
def folder(tmp_path):
    made(tmp_path / "run")
    publish(tmp_path / "run", tmp_path / "out.safetensors", licence="CC0-1.0")
    return tmp_path


def test_holds_what_the_run_does(folder, capsys):
    path, directory = folder / "out.safetensors", folder / "run"
    assert configured(path) == configured(directory) == CONFIGURED
    theirs, ours = (
        restored(x, CONFIGURED, bare_task(CONFIGURED))
        for x in (
            directory,
            path,
        )
    )
    assert theirs[1] == ours[1] == 2
    jax.tree.map(np.testing.assert_array_equal, theirs[0], ours[0])
    texts = read_texts(path)
    assert json.loads(texts["evaluation.json"])["transductive"]["mean"] == [0.5]
    assert "birds" not in texts["evaluation.txt"] + texts["evaluation.json"]
    card = (folder / "out.md").read_text()
    assert "CC0-1.0" in card and "metajax label out.safetensors --support" in card
    assert "50.00 ± 10.00" in card and "prototypical with the network conv4" in card
    publish(directory, path)  # again, over its own
    assert "None was given" in (folder / "out.md").read_text()
    assert read_config(path) == CONFIGURED


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path, hashed = tmp_path / "out.safetensors", []
    take = published.digest
    monkeypatch.setattr(published, "digest", lambda x: hashed.append(x) or take(x))

    def read(step):
        arrays = {"meta": np.ones(3, np.float32)}
        published.write_published(path, {"step": step}, arrays)
        hashed.clear()
        texts = {published.file_of(path, "step") for _ in range(3)}
        return texts, len(hashed)

    assert read("1") == ({b"1"}, 1) and read("2") == ({b"2"}, 1)
    assert not read_published(path).arrays["meta"].flags.writeable


def test_is_evaluated_as_the_run_is(folder, capsys):
    for name in ("run", "out.safetensors"):
        assert main(["evaluate", str(folder / name), "--tasks", "3"]) == 0
    name = "evaluation-test-0steps-3tasks-2queries-0inductive-seed0-step2.json"
    one, other = (folder / x / name for x in ("run", "out-results"))
    assert one.read_bytes() == other.read_bytes()
    path = str(folder / "out.safetensors")
    assert main(["evaluate", path, "--checkpoint", "best"]) == 1
    assert "leave out --checkpoint best" in capsys.readouterr().err


def test_labels_as_the_run_does(folder, capsys):
    for name, colour in (("a", 140), ("b", 220)):
        write_image(folder / "support" / name / "0.png", colour, (28, 28))
    one, other = (
        teach_run(folder / name, folder / "support", Places())
        for name in ("run", "out.safetensors")
    )
    jax.tree.map(np.testing.assert_array_equal, one.adapted, other.adapted)
    path, support = str(folder / "out.safetensors"), str(folder / "support")
    arguments = "label", path, "--support", support, "--images", support
    before = (folder / "out.safetensors").read_bytes()
    assert main([*arguments, "--out", path]) == 1
    assert "which is a file of parameters; choose" in capsys.readouterr().err
    assert (folder / "out.safetensors").read_bytes() == before


def test_is_studied(folder):
    with pytest.raises(InputError, match="out.safetensors: prototypical has no inner"):
        study_run(
            folder / "out.safetensors", Places(), tasks=2, seed=0, only=("reuse",)
        )


def test_is_no_network_of_its_own(folder):
    with pytest.raises(InputError, match="a published run without a network"):
        BackboneModel(str(folder / "out.safetensors"))


def test_a_network_of_a_file_is_in_it(tmp_path):
    network = write_network(tmp_path / "network")
    model = {"kind": "backbone", "file": str(network)}
    pictures = changed(PRESETS["miniimagenet-5w1s-small"], {"data": {"size": 32}})
    config = changed(pictures, SMALL | {"model": model})
    config = replace(config, outer=replace(config.outer, average=None))
    directory, path = made(tmp_path / "run", config), tmp_path / "out.safetensors"
    publish(directory, path)
    assert str(tmp_path) not in read_texts(path)[CONFIG]
    expected, _ = restored(directory, config, bare_task(config))
    network.unlink()
    ours = configured(path)
    assert read_config(path) == ours == config and ours.model.file == str(path)
    meta, _ = restored(path, ours, bare_task(ours))
    jax.tree.map(np.testing.assert_array_equal, meta, expected)
    for name, colour in (("a", 140), ("b", 220)):
        write_image(tmp_path / "support" / name / "0.png", colour, (32, 32))
    assert teach_run(path, tmp_path / "support", Places()).adapted
    # A run that goes on with it is published in turn.
    publish(made(tmp_path / "more", ours), tmp_path / "more.safetensors")
    path.unlink()
    again = configured(tmp_path / "more.safetensors")
    assert again == config
    restored(tmp_path / "more.safetensors", again, bare_task(again))
    with pytest.raises(InputError, match="is a published run, whose network was"):
        BackboneModel(str(tmp_path / "more.safetensors"))


def test_the_backbone_of_a_run_is_in_it(tmp_path):
    config = changed(CONFIGURED, {"learner": "mtl"})
    config = replace(config, outer=replace(config.outer, average=None))
    params = body_of(config, bare_task(config)).init(KEY)
    write_body(tmp_path / FILE, params, np.ones(8))
    config = replace(config, inner=config.inner.with_backbone(str(tmp_path)))
    directory = made(tmp_path / "run", config, tmp_path)
    path = tmp_path / "out.safetensors"
    publish(directory, path)
    assert str(tmp_path) not in read_texts(path)[CONFIG]
    ours = configured(path)
    assert read_config(path) == ours
    assert ours.inner.backbone == str(path) and digest(path) == digest(directory)
    learner = image_learner(ours)
    assert learner.pretrained is not None
    jax.tree.map(np.testing.assert_array_equal, learner.pretrained, params)
    (tmp_path / "other").mkdir()
    keep_body(path, tmp_path / "other")
    assert (tmp_path / "other" / FILE).read_bytes() == (tmp_path / FILE).read_bytes()


def changed_file(folder, change):
    """The published file, with its texts and arrays changed and its hash kept."""
    path = folder / "out.safetensors"
    texts, arrays = read_texts(path), dict(read_safetensors(path))
    arrays = {name: np.array(x) for name, x in arrays.items()}
    change(texts, arrays)
    write_safetensors(path, arrays, texts)


def other_number(texts, arrays):
    next(iter(arrays.values())).flat[0] += 1


CHANGES = {
    "a number": (other_number, "is damaged: its contents are not those"),
    "a text": (lambda t, _: t.update(step="9"), "is damaged: its contents"),
    "no hash": (lambda t, _: t.pop(HASH), "is damaged: its contents"),
    "later": (lambda t, _: t.update(format="metajax run 9"), "reads 'metajax run 1'"),
    "foreign": (lambda t, _: t.clear(), "holds arrays, and no run"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_refused(folder, name):
    change, match = CHANGES[name]
    changed_file(folder, change)
    with pytest.raises(InputError, match=match) as caught:
        configured(folder / "out.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"{}" * 50])
def test_what_is_no_such_file_is_refused(folder, content, capsys):
    path = folder / "out.safetensors"
    path.write_bytes(content)
    for command in ("evaluate", "study"):
        assert main([command, str(path)]) == 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith(f"error: {path} is no file of metajax publish")
    assert main(["publish", str(folder / "run"), str(path)]) == 1
    assert path.read_bytes() == content
    whole = folder / "whole.safetensors"
    publish(folder / "run", whole)
    for size in (20, len(whole.read_bytes()) - 1):
        path.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(InputError, match="or is damaged"):
            read_published(path)


def test_what_cannot_be_published(folder, capsys):
    directory = folder / "run"
    with pytest.raises(InputError, match="OUT must be named"):
        publish(directory, Path())
    for arguments, said in (
        (["out.npz"], "OUT must be named *.safetensors"),
        (["run/events/x.safetensors"], "which is not a folder; make it first"),
        (["x.safetensors", "--checkpoint", "best"], "no checkpoint of a validation"),
    ):
        out = str(folder / arguments[0])
        assert main(["publish", str(directory), out, *arguments[1:]]) == 1
        assert said in capsys.readouterr().err
    (folder / "notes.md").write_text("mine")
    with pytest.raises(InputError, match="notes.md, which is another file"):
        publish(directory, folder / "notes.safetensors")
    with pytest.raises(InputError, match="is published already"):
        publish(folder / "out.safetensors", folder / "again.safetensors")
    (directory / "evaluation.json").unlink()
    with pytest.raises(InputError, match="no result of this checkpoint, evaluation.js"):
        publish(directory, folder / "x.safetensors")


def begun(folder, name, *flags):
    small = "--model.filters", "2", "--outer.steps", "1", "--outer.tasks", "2"
    start = "--from", str(folder / "out.safetensors")
    arguments = "train", "glyphs", "--learner", "prototypical", *small, *start
    return main([*arguments, "--run-dir", str(folder / name), *flags])


def test_a_run_begins_with_it(folder, monkeypatch, capsys):
    before, _ = restored(folder / "run", CONFIGURED, bare_task(CONFIGURED))
    seen = []

    def fitted(learner, optimizer, *args, checkpoints, **settings):
        like = init_state(learner, optimizer, KEY)
        seen.append(checkpoints.restore(like))
        raise InputError("enough")

    monkeypatch.setattr(run, "fit", fitted)
    assert begun(folder, "more") == 1
    (state,) = seen
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, averaged(state), before)
    assert configured(folder / "more").start
    assert begun(folder, "more") == 1 and len(seen) == 2  # it goes on
    capsys.readouterr()
    assert begun(folder, "other", "--model.filters", "3") == 1
    assert "holds other meta-parameters than this run has" in capsys.readouterr().err
    assert not (folder / "other").exists()
    arguments = "train", "--config", str(folder / "more"), "--run-dir"
    assert main([*arguments, str(folder / "third")]) == 1
    assert "published file, as --from" in capsys.readouterr().err
    assert not (folder / "third").exists()
