"""The tables of papers: what is run, and what is read of it."""

import json

import jax
import pytest

from benchmarks.papers import miniimagenet, omniglot, sinusoid
from benchmarks.papers.table import Row, Settings, build, changed
from metajax.errors import InputError
from metajax.experiments.build import build_training_learner
from metajax.experiments.families import SinusoidData
from metajax.experiments.presets import PRESETS
from metajax.experiments.tasks import Task
from metajax.losses import mse
from metajax.metrics import as_metric

TINY = {
    "model.hidden": [4],
    "outer.steps": 2,
    "outer.tasks": 2,
    "evaluation.tasks": 2,
    "evaluation.steps": 2,
    "evaluation.queries": 3,
}


@pytest.fixture
def as_installed():
    """JAX as the command has it: optax's schedules promote."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("as_installed")
def test_a_table_runs_what_is_wanting_and_reads_the_rest(tmp_path):
    rows = {
        name: Row(changed(PRESETS["sinusoid"], TINY | {"learner": name}), "0.1")
        for name in ("maml", "fomaml")
    }
    settings = Settings(seeds=(0, 1), runs=tmp_path, rows=("maml",))
    empty = build("waves", rows, Settings(seeds=(0,), runs=tmp_path, read=True))
    assert empty.count("| - | - | 0 |") == 2 and not list(tmp_path.iterdir())
    first = build("waves", rows, settings)
    found = tmp_path / "waves" / "small"
    assert {path.name for path in found.iterdir()} == {"maml-0", "maml-1"}
    assert "fomaml" not in first and "| 2 | 0.1 | 5 / 2 | 2 x 2 |" in first
    score = json.loads((found / "maml-0" / "evaluation.json").read_text())
    assert f"{score['transductive']['mean'][-1]:.4f}" in first
    before = (found / "maml-0" / "metrics.jsonl").stat().st_mtime_ns
    assert build("waves", rows, settings) == first
    assert (found / "maml-0" / "metrics.jsonl").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="no row 'moml'; .* there are maml, fomaml"):
        build("waves", rows, Settings(rows=("moml",)))


LOSSES = {"mean": mse, "sum-over-ways": mse}


def no_episodes(split, queries):
    raise AssertionError("a learner is built of no data")


@pytest.mark.parametrize("budget", ["full", "small"])
def test_every_row_is_a_run_that_can_be(budget):
    tables = [
        *(omniglot.rows(setting, budget) for setting in omniglot.SETTINGS),
        *(miniimagenet.rows(setting, budget) for setting in miniimagenet.SETTINGS),
        *(sinusoid.rows(shots, budget) for shots in (5, 10, 20)),
    ]
    for config in (row.config for rows in tables for row in rows.values()):
        config.check()
        of_values = isinstance(config.data, SinusoidData)
        shape, metric = (1,) if of_values else (28, 28, 1), as_metric(mse)
        kind = "values" if of_values else "classes"
        task = Task(no_episodes, 5, 5, 5, LOSSES, metric, shape, kind)
        build_training_learner(config, task)
    assert omniglot.rows("5w1s", "full")["maml"].config.loss == "sum-over-ways"
