"""A run whose files were damaged: what is mended, refused and kept apart."""

import json
import shutil
import warnings

import pytest

from metajax.cli.main import main
from metajax.experiments import run
from metajax.experiments.best import best_checkpoint
from tests.helpers import cut, flip

pytestmark = pytest.mark.usefixtures("relaxed", "kept_programs")

SMALL = [
    *("--model.hidden", "4", "--inner.steps", "1", "--outer.tasks", "2"),
    *("--outer.steps", "250", "--evaluation.tasks", "4", "--evaluation.steps", "1"),
]


def train(directory):
    return main(["train", "sinusoid", "--run-dir", str(directory), *SMALL])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run, with checkpoints after 100, 200 and 250 meta-steps."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "VALIDATION_TASKS", 2)
        assert train(directory) == 0
    return directory


@pytest.fixture
def copied(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "VALIDATION_TASKS", 2)
    return shutil.copytree(whole, tmp_path / "run")


def largest(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def outcome(directory):
    """What must be alike of a run that was mended, byte for byte."""
    names = ("metrics.jsonl", "evaluation.json", "evaluation.txt")
    kept = [f"{kept}/manifest/metadata" for kept in ("checkpoints/250", "best/*")]
    manifests = [path for name in kept for path in sorted(directory.glob(name))]
    paths = [*(directory / name for name in names), *manifests]
    return [(path.relative_to(directory), path.read_bytes()) for path in paths]


def error(capsys):
    """The one line of error."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in "".join(lines)
    return errors[0]


def test_a_finished_run_of_a_damaged_checkpoint_is_mended(whole, copied, capfd):
    own = (copied / "evaluation.json").read_bytes()
    assert json.loads(own)["protocol"]["meta_step"] == 250
    cut(copied / "checkpoints/250/state/manifest.ocdbt")
    with pytest.warns(UserWarning, match="checkpoint 250 in .* is damaged") as caught:
        assert main(["evaluate", str(copied)]) == 0
    assert len(caught) == 1
    assert (copied / "evaluation.json").read_bytes() == own
    (other,) = copied.glob("evaluation-test-*-step200.json")
    assert json.loads(other.read_text())["protocol"]["meta_step"] == 200
    said = capfd.readouterr()
    assert "after 200 of 250 meta-steps" in said.err

    with pytest.warns(UserWarning, match="checkpoint 250 in .* is damaged") as caught:
        assert train(copied) == 0
    assert len(caught) == 1, "once, though it is read twice"
    assert outcome(copied) == outcome(whole)
    assert list((copied / "checkpoints-damaged").glob("250-*/250"))
    said = capfd.readouterr()
    assert "is finished" not in said.out and "Traceback" not in said.err
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(copied) == 0
    assert "is finished" in capfd.readouterr().out


def test_a_run_that_goes_on_has_no_result_yet(copied, capsys):
    """What is measured halfway is not taken for the result of the whole."""
    shutil.rmtree(copied / "checkpoints/250")
    (copied / "evaluation.json").unlink()
    assert main(["evaluate", str(copied), "--tasks", "3"]) == 0
    assert not (copied / "evaluation.json").exists()
    assert list(copied.glob("evaluation-test-1steps-3tasks-*-step200.txt"))
    for harm in (cut, flip):
        for step in (100, 200):
            harm(largest(copied / f"checkpoints/{step}"))
    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    capsys.readouterr()
    for command in (lambda: train(copied), lambda: main(["evaluate", str(copied)])):
        assert command() == 1
        assert "move the folder away to begin anew" in error(capsys)
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before


def unhashed(path):
    found = json.loads(path.read_text())
    del found["sha256"]
    path.write_text(json.dumps(found))


def edited(path):
    path.write_text(path.read_text().replace('"tasks": 4', '"tasks": 9'))


def emptied(path):
    """As of an earlier version, without scores."""
    empty = {"mean": [], "interval": []}
    found = {"protocol": {}, "transductive": empty, "inductive": empty}
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "name, harm",
    [
        ("evaluation.json", cut),
        ("evaluation.json", edited),
        ("evaluation.json", lambda path: path.write_text("[]")),
        ("evaluation.json", unhashed),
        ("evaluation.json", lambda path: path.write_text('{"protocol": {}}')),
        ("evaluation.json", emptied),
        ("evaluation.txt", flip),
        ("evaluation.txt", lambda path: path.unlink()),
    ],
)
def test_a_damaged_result_is_measured_again(whole, copied, capsys, name, harm):
    harm(copied / name)
    harmed = (copied / name).read_bytes() if (copied / name).exists() else None
    assert train(copied) == 0
    said = capsys.readouterr()
    assert "is not what was written; it is measured again" in said.err
    assert "is finished" not in said.out and outcome(copied) == outcome(whole)
    aside = copied / name.replace(".", "-damaged.")
    assert harmed is None or aside.read_bytes() == harmed


def test_a_result_of_an_earlier_version_is_taken(copied, capsys):
    """It has neither a hash nor a meta-step."""
    path = copied / "evaluation.json"
    found = json.loads(path.read_text())
    del found["sha256"], found["protocol"]["meta_step"]
    path.write_text(json.dumps(found))
    assert train(copied) == 0
    assert "is finished" in capsys.readouterr().out


def test_a_cut_text_of_an_earlier_version_is_measured_again(copied, capsys):
    text, plain = (copied / f"evaluation.{end}" for end in ("txt", "json"))
    found = json.loads(plain.read_text())
    del found["sha256"], found["protocol"]["meta_step"]
    plain.write_text(json.dumps(found))
    text.write_text("")
    assert train(copied) == 0
    assert "is not what was written" in capsys.readouterr().err and text.read_text()


def test_a_damaged_best_checkpoint(copied, capsys):
    (step,) = best_checkpoint(copied).steps()
    own = (copied / "evaluation.json").read_bytes()
    assert main(["evaluate", str(copied), "--checkpoint", "best"]) == 0
    (written,) = copied.glob("evaluation-best-test-*.json")
    assert json.loads(written.read_text())["protocol"]["meta_step"] == step
    before = written.read_bytes()
    cut(largest(copied / "best"))
    capsys.readouterr()
    assert main(["evaluate", str(copied), "--checkpoint", "best"]) == 1
    assert f"no checkpoint in {copied / 'best'} can be read" in error(capsys)
    assert written.read_bytes() == before
    assert (copied / "evaluation.json").read_bytes() == own
