"""The command: its tables, its record, and bad input in one line."""

import json
import shlex

import numpy as np
import pytest

from benchmarks.command import run_command
from benchmarks.rl import __main__ as command
from benchmarks.rl import published, tables
from benchmarks.rl.optimum import optimal_value
from benchmarks.rl.rows import Row, beside, markdown

pytestmark = pytest.mark.usefixtures("relaxed")


@pytest.fixture(autouse=True)
def remembering(monkeypatch):
    """Keeps what one row compiled for the next."""
    monkeypatch.setattr("jax.clear_caches", lambda: None)


def call(line):
    return run_command(
        command.main,
        command.Settings,
        "benchmarks.rl",
        command.__doc__,
        shlex.split(line),
    )


def test_a_table_of_bandits_is_printed_and_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "CONSTANTS", (0.1,))
    monkeypatch.setitem(published.BANDIT_TOTALS, (2, 3), {"UCB1": "1.7", "RL²": "1.8"})
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"results": {"other": []}}))
    assert call(f"bandit --arms 2 --pulls 3 --tasks 50 --to {record}") == 0
    out = capsys.readouterr().out
    optimum = optimal_value(2, 3)
    assert f"| Bayes optimum, exact | {optimum:.2f} |  | " in out
    (tuned,) = [line for line in out.splitlines() if "UCB1, c = 0.1, tuned" in line]
    assert " ± " in tuned and " | 1.7 | " in tuned
    assert "| RL² |  | 1.8 |  |" in out
    others, rows = json.loads(record.read_text())["results"].values()
    assert others == [] and rows[-1]["published"] == "1.8"
    figures = {row["name"]: row["value"] for row in rows}
    assert figures["Bayes optimum, exact"] == optimum


def test_tables_of_mdps_are_of_the_same_plays(tmp_path):
    record = tmp_path / "record.json"
    sizes = "--states 2 --actions 2 --horizon 2 --episodes 2 --tasks 20"
    assert call(f"mdp {sizes} --to {record}") == 0
    results = json.loads(record.read_text())["results"]
    assert [title.split(": ")[1] for title in results] == [
        "mean total reward",
        "share of value iteration",
        "share of value iteration discounted by 0.99",
    ]
    totals, shares, discounted = (
        np.array([row["value"] for row in rows]) for rows in results.values()
    )
    np.testing.assert_allclose(shares, totals / totals[-1])
    ratios = discounted / shares
    np.testing.assert_allclose(ratios, ratios[0])
    assert 1.0 < ratios[0] < 1 / 0.99


def test_a_row_of_ones_own_has_the_published_figure_beside_it():
    ours = {"RL²": Row("metajax rl2", 6.612, 0.018, 40.0)}
    rows = beside(ours, {"RL²": "6.7", "SNAIL": "6.6"})
    table = markdown("5 arms", rows).splitlines()
    assert table[-2] == "| metajax rl2 | 6.612 ± 0.018 | 6.7 | 40.0 |"
    assert table[-1] == "| SNAIL |  | 6.6 |  |"


def test_figures_that_are_not_finite_are_shown():
    intervals = {"wide": np.inf, "none": np.nan, "narrow": 0.021}
    rows = [Row(name, np.nan, x) for name, x in intervals.items()]
    shown = [line.split(" | ")[1] for line in markdown("5 arms", rows).splitlines()[4:]]
    assert shown == ["nan ± inf", "nan ± nan", "nan ± 0.021"]
    assert "nan ± nan" in markdown("5 arms", rows[1:2])


def test_a_record_is_kept_before_it_is_printed(tmp_path, monkeypatch):
    def unprinted(*_):
        raise RuntimeError

    monkeypatch.setattr(command, "bandit_tables", lambda _: {"5 arms": [Row("x", 1.0)]})
    monkeypatch.setattr(command, "markdown", unprinted)
    record = tmp_path / "record.json"
    with pytest.raises(RuntimeError):
        command.main(command.Bandit(to=record))
    assert json.loads(record.read_text())["results"]["5 arms"]


@pytest.mark.parametrize(
    "line, message",
    {
        "": "Expected one of {bandit, mdp, navigation, cheetah}",
        "maze": "maze",
        "bandit --arms 1": "--arms must be a whole number of at least 2, got 1",
        "bandit --pulls 0": "--pulls must be a whole number of at least 1, got 0",
        "bandit --pulls 501": "--pulls must be at most 500, got 501",
        "bandit --tasks 1": "--tasks must be a whole number of at least 2, got 1",
        "mdp --episodes ten": "Error parsing --episodes: invalid literal",
        "mdp --horizon 0": "--horizon must be a whole number of at least 1, got 0",
        "mdp --seed -1": "--seed must be a whole number of at least 0, got -1",
        "navigation --rounds 0": "--rounds must be a whole number of at least 1, got 0",
        "mdp --to /nowhere/x.json": "there is no folder /nowhere to write x.json in",
    }.items(),
)
def test_bad_input_is_one_line(line, message, capsys):
    assert call(line) in (1, 2)
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and message in err
    assert err.count("\n") == 1 and not out


def test_a_record_must_be_one(tmp_path, capsys):
    record = tmp_path / "record.json"
    record.write_text("[]")
    assert call(f"bandit --to {record}") == 1
    assert "is not the record of a benchmark" in capsys.readouterr().err
    assert record.read_text() == "[]"
