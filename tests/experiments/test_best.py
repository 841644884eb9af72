import jax.numpy as jnp
import pytest

from metajax import metrics
from metajax.experiments.best import Best, best_checkpoint
from metajax.reporting import JsonLines
from metajax.training.checkpoints import Checkpoints
from metajax.training.state import TrainState

pytestmark = pytest.mark.usefixtures("relaxed")

SCORES = [0.5, 0.7, float("nan"), 0.7, 0.6]


def state_at(step):
    return TrainState(jnp.float32(step), (), jnp.int32(step))


def validate(directory, metric, scores, first=1, every=1):
    """Validations after meta-steps `first`, ... of a run that begins or goes on."""
    checkpoints = Checkpoints(directory / "checkpoints")
    rows = JsonLines(directory / "metrics.jsonl")
    best = Best(directory, metric, checkpoints)
    for observer in (rows, best):
        observer.start(state_at(first - 1))
    for step, score in enumerate(scores, first):
        rows.write({"step": step, "split": "validation", metric.name: score})
        best.offer(state_at(step))
        if step % every == 0:
            checkpoints.save(state_at(step))
    best.prune()
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


def test_a_dead_run_leaves_no_best(tmp_path):
    """Killed after the third validation; its newest checkpoint is the second's."""
    assert validate(tmp_path, metrics.accuracy, [0.6, 0.5, 0.7], every=2) == [1, 3]
    # It does no better the second time, as on other devices it may.
    assert validate(tmp_path, metrics.accuracy, [0.55, 0.5], first=3, every=2) == [1]


def test_a_best_is_kept_until_a_checkpoint_follows(tmp_path):
    assert validate(tmp_path, metrics.accuracy, [0.5, 0.6, 0.7], every=2) == [2, 3]
    assert validate(tmp_path, metrics.accuracy, [0.4], first=4, every=2) == [3]
