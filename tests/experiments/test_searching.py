"""Trials that Optuna proposes; what they train is a function of their values."""

import importlib
import json
import sys

import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import NonFiniteError
from metajax.evaluation.result import Evaluation, Score
from metajax.experiments import results, sweep
from metajax.experiments.presets import PRESETS
from metajax.experiments.run import claim
from metajax.experiments.searching import FILE, Optuna
from metajax.experiments.sweep_options import Range, read_options
from metajax.experiments.sweep_rows import Row
from metajax.metrics import accuracy, mse
from metajax.reporting import JsonLines

OVER = "inner.rate=1e-3..1:log", "inner.steps=1..9", "inner.optimizer=sgd,adam"

DIVERGES = 0.7  # rates above it


@pytest.fixture
def trained(monkeypatch):
    """The values of the runs that are trained; the best rate is 0.1, with sgd."""
    seen = []

    def train(config, directory, places, *, devices):
        inner = config.inner
        seen.append((inner.rate, inner.steps, inner.optimizer))
        claim(directory, config)
        if inner.rate > DIVERGES:
            raise NonFiniteError("meta-step 1 is not finite", None)
        away = abs(np.log10(inner.rate) + 1)
        score = float(0.9 - 0.2 * away - 0.2 * (inner.optimizer == "adam"))
        row = {"step": config.outer.steps, "split": "validation", "accuracy": score}
        JsonLines(directory / "metrics.jsonl").write(row | {"accuracy_interval": 0.01})
        values = Score(np.array([0.2, score]), np.array([0.0, 0.02]))
        facts = {"metric": "accuracy", "meta_step": config.outer.steps}
        evaluation = Evaluation(values, values, facts, accuracy)
        results._write(directory, results.OWN, evaluation)

    monkeypatch.setattr(sweep, "train", train)
    return seen


def swept(folder, trials, *more, over=OVER):
    flags = "--run-dir", str(folder), "--trials", str(trials), *more
    return main(["sweep", "glyphs", *flags, "--over", *over])


def test_a_search_that_is_stopped_goes_on_as_one_that_is_not(
    tmp_path, trained, capsys, monkeypatch
):
    assert swept(tmp_path / "whole", 14) == 0
    whole = [*trained]
    out, err = capsys.readouterr()
    assert "run 14 of 14" in err and out.count("best validation") == 1
    content = json.loads((tmp_path / "whole" / "sweep.json").read_text())
    assert content["over"]["inner.rate"] == "0.001..1:log"
    assert (tmp_path / "whole" / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    rates, steps, rules = zip(*whole)
    assert len(set(rates)) == 14 and all(0.001 <= x <= 1 for x in rates)
    assert len(set(steps)) > 2 and {type(x) for x in steps} == {int}
    assert set(rules) == {"sgd", "adam"}

    trained.clear()
    assert swept(tmp_path / "stopped", 3) == 0
    fake = sweep.train

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "train", stopped)
    assert swept(tmp_path / "stopped", 14) == 130  # in one that is not finished
    monkeypatch.setattr(sweep, "train", fake)
    assert swept(tmp_path / "stopped", 14) == 0
    finite = [x for x in whole if x[0] <= DIVERGES]  # others are tried again
    assert [x for x in trained if x[0] <= DIVERGES] == finite
    assert set(trained) == set(whole)


@pytest.mark.parametrize("metric, sign", [(accuracy, 1), (mse, -1)])
def test_trials_come_nearer_to_the_best(tmp_path, metric, sign):
    """A rate of 0.1, by the score of each but those that have none."""
    options, rows, away = {"inner.rate": Range(1e-3, 1.0, True)}, [], []
    search = Optuna(options, 40)
    with search.proposals(tmp_path, PRESETS["glyphs"], metric) as propose:
        while (values := propose(rows)) is not None:
            away.append(abs(np.log10(values["inner.rate"]) + 1))
            score = None if away[-1] > 1.5 else float(sign * (0.9 - 0.3 * away[-1]))
            rows.append(Row(values, tmp_path, validation=score))
    assert len(rows) == 40
    assert np.mean(away[25:]) < 0.6 * np.mean(away[:10])


def test_a_trial_that_is_not_finite_is_a_row(tmp_path, trained, capsys):
    assert swept(tmp_path, 2, over=["inner.rate=0.8..0.9"]) == 0
    rows = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert all(row["failed"] for row in rows) and len(rows) == 2
    assert "meta-step 1 is not finite" in capsys.readouterr().out


def test_a_search_that_is_killed_as_it_asks_goes_on(tmp_path, monkeypatch):
    """Between two parameters of its second trial; the seed is that trial's."""
    search = Optuna({"inner.rate": Range(1e-3, 1.0), "inner.steps": Range(1, 9)}, 2)
    first, asked = [], []
    sampler = importlib.import_module("optuna").samplers.TPESampler
    sample = sampler.sample_independent

    def killed(*args):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(args)
        return sample(*args)

    def propose_all(folder):
        folder.mkdir(exist_ok=True)
        with search.proposals(folder, PRESETS["glyphs"], accuracy) as propose:
            rows = first[:]
            while (values := propose(rows)) is not None:
                rows.append(Row(values, tmp_path, validation=0.5))
                first[:] = rows[:1]
        return [row.values for row in rows]

    with monkeypatch.context() as patched:
        patched.setattr(sampler, "sample_independent", killed)
        with pytest.raises(KeyboardInterrupt):
            propose_all(tmp_path / "killed")
    resumed = propose_all(tmp_path / "killed")
    first.clear()
    assert resumed == propose_all(tmp_path / "whole") and len(resumed) == 2


def test_a_trial_that_cannot_be_built_is_a_row(tmp_path, monkeypatch, capsys):
    """Sides of a U-Net are multiples of 16; both ends of the range are."""
    sizes = []

    def train(config, directory, places, *, devices):
        sizes.append(config.data.size)
        raise NonFiniteError("meta-step 1 is not finite", None)

    monkeypatch.setattr(sweep, "train", train)
    flags = "--run-dir", str(tmp_path), "--over", "data.size=16..32"
    for trials in ("2", "3"):
        assert main(["sweep", "glyph-masks", "--trials", trials, *flags]) == 0
    rows = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert len(rows) == 3, "the search goes on"
    match = "sides are multiples of 16"
    assert any(match in row["failed"] for row in rows)
    assert match in capsys.readouterr().err and not {*sizes} - {16, 32}

    flags = "--run-dir", str(tmp_path / "other"), "--over", "data.size=17..32"
    assert main(["sweep", "glyph-masks", "--trials", "1", *flags]) == 1
    assert "--over data.size=17: --model unet" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_study_is_of_one_configuration_and_the_same_options(
    tmp_path, trained, capsys
):
    assert swept(tmp_path, 1) == 0
    for more, over in (["--outer.steps", "5"], OVER), ([], OVER[:1]):
        assert swept(tmp_path, 1, *more, over=over) == 1
        assert "another configuration or --over" in capsys.readouterr().err
    assert len(trained) == 1


@pytest.mark.parametrize(
    "trials, over, match",
    [
        (0, OVER, "--trials must be a whole number of at least 1"),
        (1, ["inner.rate=-1..1"], "over inner.rate=-1: --inner.rate must be"),
        (1, ["inner.rate=1..0.1"], "LOW..HIGH with LOW < HIGH"),
        (1, ["inner.rate=0..1:log"], "LOW..HIGH with LOW < HIGH"),
        (1, ["inner.rate=0.1..1:linear"], "LOW..HIGH with LOW < HIGH"),
        (1, ["inner.rate=0.1..fast"], "rate of inner must be float, got '0.1..fast'"),
        (1, ["inner.steps=1..2.5"], "steps of inner must be int, got 2.5"),
    ],
)
def test_what_cannot_be_searched_is_refused_first(
    tmp_path, trained, capsys, trials, over, match
):
    assert swept(tmp_path / "sweep", trials, over=over) == 1
    assert match in capsys.readouterr().err
    assert not trained and not (tmp_path / "sweep").exists()


def test_without_optuna(tmp_path, trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert swept(tmp_path / "sweep", 1) == 1
    assert "pip install 'metajax[optuna]'" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_paths_and_names_with_points_are_no_ranges(tmp_path, trained):
    assert read_options(["inner.backbone=../a.npz,..", "seed=1..3"]) == {
        "inner.backbone": ["../a.npz", ".."],
        "seed": Range(1, 3),
    }
    folder = tmp_path / "a?b 50%"
    assert swept(folder, 1) == 0 and (folder / FILE).is_file()
    assert [*tmp_path.iterdir()] == [folder]
