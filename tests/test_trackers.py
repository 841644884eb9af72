"""Trackers of experiments: what each is sent, by its own package where it is there."""

import sys

import numpy as np
import pytest

from metajax.cli.main import main
from metajax.errors import InputError
from metajax.experiments.owned import run_of
from metajax.reporting import TRACKERS, Tracker
from metajax.training.state import TrainState

STATES = [TrainState({}, (), np.int32(step)) for step in (0, 10, 20)]
METRICS = [{"loss": np.array([1.0, 3.0])}, {"loss": np.array([0.5])}]
SENT = {10: 2.0, 20: 0.5}


def train(tracker):
    """A run that is stopped after its first dispatch and goes on."""
    for before, after, metrics in zip(STATES, STATES[1:], METRICS):
        with tracker as entered:
            entered.start(before)
            entered.record(after, metrics)
            row = {"step": int(after.step), "split": "validation", "accuracy": 0.5}
            entered.write({**row, "count": 3})


class Noted(Tracker):
    """A tracker of this test, whose package is one of Python's."""

    name, package = "noted", "math"
    sent: list = []

    def open(self, package, key):
        print("not for standard output")
        return package.__name__, key

    def log(self, run, numbers, step):
        self.sent.append((run, step, dict(numbers)))

    def close(self, run):
        self.sent.append((run, "closed"))


def test_what_a_tracker_is_sent(tmp_path, capsys):
    train(Noted(tmp_path, {"rate": 0.1}))
    assert capsys.readouterr().out == ""
    key = (tmp_path / "noted.id").read_text()
    runs, steps, *_ = zip(*((x[0], x[1]) for x in Noted.sent))
    assert {*runs} == {("math", key)}, "one run, which went on"
    assert steps == (10, 10, "closed", 20, 20, "closed")
    train_row, validation = Noted.sent[0][2], Noted.sent[1][2]
    assert train_row["train/loss"] == 2 and validation == {"validation/accuracy": 0.5}


def test_a_package_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install 'metajax\[wandb\]'"):
        TRACKERS["wandb"](tmp_path).check()
    run = tmp_path / "run"
    assert main(["train", "sinusoid", "--run-dir", str(run), "--log", "wandb"]) == 1
    assert "wandb is not installed" in capsys.readouterr().err and not run.exists()


def test_what_a_tracker_keeps_is_the_runs_own(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for name in ("wandb/offline-run/x.wandb", "mlflow.id"):
        assert run_of(tmp_path / name) == tmp_path


def installed(name, tmp_path, monkeypatch):
    """The tracker of an installed package, whose store is in a folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    pytest.importorskip(name)
    return TRACKERS[name](tmp_path, {"inner.rate": 0.1})


@pytest.mark.filterwarnings("default")
def test_wandb_offline(tmp_path, monkeypatch):
    train(installed("wandb", tmp_path, monkeypatch))
    key = (tmp_path / "wandb.id").read_text()
    folders = [*(tmp_path / "wandb").glob(f"offline-run-*-{key}")]
    assert folders and all([*folder.glob("*.wandb")] for folder in folders)


@pytest.mark.filterwarnings("default")
def test_mlflow_in_a_local_store(tmp_path, monkeypatch):
    train(installed("mlflow", tmp_path, monkeypatch))
    import mlflow

    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("metajax").experiment_id
    (run,) = client.search_runs([place])
    assert run.data.params == {"inner.rate": "0.1"} and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {x.step: x.value for x in history} == SENT


@pytest.mark.filterwarnings("default")
def test_trackio_on_this_machine(tmp_path, monkeypatch):
    train(installed("trackio", tmp_path, monkeypatch))
    import trackio

    name = f"{tmp_path.name}-{(tmp_path / 'trackio.id').read_text()[:8]}"
    (run,) = trackio.Api().runs("metajax")
    assert run.name == name
