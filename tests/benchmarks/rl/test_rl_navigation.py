"""A meta-step of navigation: PyTorch's gradients are metajax's."""

import json

import numpy as np
import pytest

from benchmarks.command import run_command
from benchmarks.rl import __main__ as command
from benchmarks.rl import timed
from benchmarks.rl.settings import Navigation

SMALL = Navigation(tasks=2, trajectories=3, horizon=12, width=5)


def call(*arguments):
    return run_command(
        command.main, command.Settings, "benchmarks.rl", command.__doc__, arguments
    )


def test_meta_gradients_agree():
    pytest.importorskip("torch")
    away = timed.distances(SMALL)
    assert away.keys() == timed.FORMS.keys()
    assert max(away.values()) < 1e-8


@pytest.mark.usefixtures("relaxed")
def test_times_are_printed_and_kept(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(timed, "PAUSE", 0.0)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # two threads wait for a free core
    record = tmp_path / "record.json"
    sizes = "--tasks 2 --trajectories 3 --horizon 4 --width 5 --rounds 2"
    assert call("navigation", *sizes.split(), "--to", str(record)) == 0
    out = capsys.readouterr().out
    assert "| metajax | " in out and " | 1.00 | " in out
    (rows,) = json.loads(record.read_text())["results"].values()
    assert [row["name"] for row in rows] == ["metajax", *timed.FORMS.values()]
    assert np.all(np.array([row["steps"] for row in rows]) > 0)
    assert {len(row["steps"]) for row in rows} == {2}


def test_other_gradients_are_refused(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(timed, "distances", lambda settings: {"loop": float("nan")})
    with pytest.raises(ArithmeticError, match="other gradients than metajax's: loop"):
        timed.print_times(SMALL)


def test_without_torch(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call("navigation") == 1
    out, err = capsys.readouterr()
    assert err == "error: torch is not installed; pip install torch\n" and not out
