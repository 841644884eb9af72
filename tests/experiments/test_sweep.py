"""A sweep: which runs it makes, reads and shows; training itself is left out."""

import json

import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError, NonFiniteError
from metajax.evaluation.result import Evaluation, Score
from metajax.experiments import results, sweep
from metajax.experiments.presets import PRESETS
from metajax.experiments.run import claim
from metajax.experiments.sweep import folder_of
from metajax.experiments.sweep_options import read_options
from metajax.metrics import accuracy
from metajax.reporting import JsonLines

SCORES = {0.1: 0.5, 0.4: 0.75}  # of validation, by inner rate; the test's are reversed


@pytest.fixture
def trained(monkeypatch):
    """The configurations that are trained, each with a made-up result."""
    seen = []

    def train(config, directory, places, *, devices):
        seen.append(config)
        claim(directory, config)
        if config.inner.rate > 1:
            raise NonFiniteError("meta-step 1 is not finite ({'loss': nan})", None)
        score, step = SCORES[config.inner.rate], config.outer.steps
        row = {"step": step, "split": "validation", "accuracy_interval": 0.01}
        JsonLines(directory / "metrics.jsonl").write(row | {"accuracy": score})
        values = Score(np.array([0.2, 1 - score]), np.array([0.0, 0.02]))
        facts = {"metric": "accuracy", "meta_step": step}
        evaluation = Evaluation(values, values, facts, accuracy)
        results._write(directory, results.OWN, evaluation)

    monkeypatch.setattr(sweep, "train", train)
    return seen


def swept(folder, *over, more=()):
    return main(["sweep", "glyphs", "--run-dir", str(folder), *more, "--over", *over])


def test_every_combination_is_trained_once(tmp_path, trained, capsys):
    folder = tmp_path / "sweep"
    over = "inner.rate=0.1,0.4", "outer.rate=1e-3,2e-3"
    assert swept(folder, *over) == 0
    assert [(x.inner.rate, x.outer.rate) for x in trained] == [
        *((0.1, 0.001), (0.1, 0.002), (0.4, 0.001), (0.4, 0.002))
    ]
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["inner.rate", "outer.rate", "validation", "test"]
    scores = "75.00 ± 1.00  25.00 ± 2.00"
    assert lines[3].endswith(f"0.4       0.001  {scores}  best validation")
    assert out.count("best validation") == 1 and "run 4 of 4" in err
    assert (folder / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    assert folder.joinpath("inner.rate=0.4,outer.rate=0.002/config.json").is_file()

    trained.clear()
    assert swept(folder, *over, more=["--json"]) == 0
    assert not trained, "what is finished is read"
    (line,) = capsys.readouterr().out.splitlines()
    plain = json.loads(line)
    assert plain["best"].endswith("inner.rate=0.4,outer.rate=0.001")
    assert [row["test"] for row in plain["runs"]] == [0.5, 0.5, 0.25, 0.25]
    assert swept(folder, "inner.rate=0.1,0.4", more=["--outer.steps", "5"]) == 0
    assert len(trained) == 2, "other runs of the same sweep"


def test_a_run_that_is_not_finite_is_a_row(tmp_path, trained, capsys):
    assert swept(tmp_path, "inner.rate=9,0.1") == 0
    rows = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert [bool(row["failed"]) for row in rows] == [True, False]
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == "9 - - meta-step 1 is not finite".split()


@pytest.mark.parametrize(
    "over, match",
    [
        ([], "expected --over NAME=VALUE,VALUE"),
        (["inner.rate"], "--over must be NAME=VALUE,VALUE"),
        (["inner.rate=0.1", "inner.rate=0.2"], "each name once"),
        (["inner.ratee=0.1"], "inner has an unknown 'ratee'; did you mean 'rate'"),
        (["inner.rate=fast"], "rate of inner must be float, got 'fast'"),
        (["inner.rate=0.1..1"], "is a range, in which Optuna proposes values; add"),
        (["inner.rate=0.1,-1"], "over inner.rate=-1: --inner.rate must be"),
        (["seed.x=1"], "seed"),
    ],
)
def test_what_no_configuration_has_is_refused_first(
    tmp_path, trained, capsys, over, match
):
    assert swept(tmp_path / "sweep", *over) in (1, 2)
    assert match in capsys.readouterr().err
    assert not trained and not (tmp_path / "sweep").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, trained):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="no folder of a sweep"):
        sweep._claim(tmp_path)
    claim(tmp_path / "run", PRESETS["glyphs"])
    with pytest.raises(InputError, match="no folder of a sweep"):
        sweep._claim(tmp_path / "run")


def test_values_and_the_names_of_folders():
    assert read_options(["model.hidden=[4,4],[8]"]) == {"model.hidden": [[4, 4], [8]]}
    assert read_options(["learner=maml,anil", "seed=1,2"]) == {
        "learner": ["maml", "anil"],
        "seed": [1, 2],
    }
    for value in ("a/b", "x" * 200):
        assert len(folder_of({"name": value})) == 32
