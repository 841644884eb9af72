import jax.numpy as jnp
import pytest

from metajax import metrics
from metajax.experiments.best import Best, best_checkpoint
from metajax.reporting import JsonLines
from metajax.training.state import TrainState

pytestmark = pytest.mark.usefixtures("relaxed")

SCORES = [0.5, 0.7, float("nan"), 0.7, 0.6]


def validate(directory, metric, scores, first=1):
    """Validations after meta-steps `first`, ... of a run that begins or goes on."""
    rows, best = JsonLines(directory / "metrics.jsonl"), Best(directory, metric)
    rows.start(TrainState((), (), jnp.int32(first - 1)))
    for step, score in enumerate(scores, first):
        rows.write({"step": step, "split": "validation", metric.name: score})
        best.offer(TrainState(jnp.float32(step), (), jnp.int32(step)))
    return best_checkpoint(directory).steps()


def test_the_best_is_kept(tmp_path):
    best = {metrics.accuracy: [2], metrics.mse: [1], metrics.auc: [2]}
    for metric, steps in best.items():
        directory = tmp_path / metric.name
        directory.mkdir()
        assert validate(directory, metric, SCORES) == steps
        assert (
            steps[0]
            == best_checkpoint(directory)
            .restore(TrainState(jnp.float32(0), (), jnp.int32(0)))
            .meta
        )


def test_no_number_is_no_best(tmp_path):
    assert validate(tmp_path, metrics.mse, [float("nan")]) == []
    assert validate(tmp_path, metrics.mse, [float("nan"), 0.5]) == [2]


@pytest.mark.parametrize("resumed", [1, 2, 3])
def test_the_best_is_the_same_after_a_resume(tmp_path, resumed):
    """Killed after the third validation, the best; the checkpoint is from before."""
    assert validate(tmp_path, metrics.accuracy, [0.5, 0.6, 0.8]) == [3]
    after = [0.5, 0.6, 0.8, 0.7]
    assert validate(tmp_path, metrics.accuracy, after[resumed - 1 :], resumed) == [3]
