"""Which evaluation kept records belong to: the program says it, in any process."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.metrics import mean_of
from tests.helpers import KEY

pytestmark = pytest.mark.usefixtures("kept_programs")

WAVES = mj.data.sinusoid(5, 5)
ASKED = dict(tasks=6, tasks_per_call=2)


def learner_of(rate=0.01, steps=1):
    return mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(rate), steps)


def metric_of(power):
    """Of one name, whatever the power."""

    def error(outputs, targets):
        return jnp.mean(jnp.abs(outputs - targets) ** power)

    return mean_of(error, "error")


def judge_by(shift):
    def judge(learner, adapted, task):
        return learner.predict(adapted, task.query.inputs) + shift, task.query.targets

    return judge


def scored(path, learner=None, metric=None, stop_at=None, **settings):
    """The scores, and how many calls they took."""
    learner = learner_of() if learner is None else learner
    metric = metric_of(2) if metric is None else metric
    asked = []

    def stop():
        asked.append(0)
        return len(asked) == stop_at

    settings = ASKED | dict(unfinished=path, stop=stop) | settings
    score = mj.evaluate(learner, learner.init(KEY), WAVES, metric, **settings)
    return score.transductive.mean, len(asked)


def partly(path, **settings):
    with pytest.raises(mj.StoppedError, match="after 4 of 6"):
        scored(path, stop_at=3, **settings)


def test_the_same_program_of_a_fresh_learner_goes_on(tmp_path):
    partly(path := tmp_path / "x.npz")
    resumed, calls = scored(path)
    whole, all_calls = scored(None)
    assert (calls, all_calls) == (1, 3)
    np.testing.assert_array_equal(resumed, whole)


def test_another_learner_metric_or_judge_starts_anew(tmp_path):
    partly(path := tmp_path / "x.npz")
    kept = path.read_bytes()
    for changes in (
        dict(learner=learner_of(rate=0.5)),
        dict(metric=metric_of(1)),
        dict(judge=judge_by(0.0)),
    ):
        path.write_bytes(kept)
        got, calls = scored(path, **changes)
        assert calls == 3, changes
        np.testing.assert_array_equal(got, scored(None, **changes)[0])
    path.unlink()
    partly(path, judge=judge_by(0.0))
    assert scored(path, judge=judge_by(1.0))[1] == 3
    path.unlink()
    shift = jnp.arange(5.0)[:, None]  # no literal: a constant beside the program
    partly(path, judge=judge_by(shift))
    assert scored(path, judge=judge_by(2 * shift))[1] == 3


SCRIPT = """
import sys
from pathlib import Path
import tests.conftest  # of so many devices
from tests.evaluation.test_resuming import partly
partly(Path(sys.argv[1]))
"""


def test_it_goes_on_in_another_process(tmp_path):
    path = tmp_path / "x.npz"
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, timeout=300)
    resumed, calls = scored(path)
    assert calls == 1
    np.testing.assert_array_equal(resumed, scored(None)[0])


def test_both_modes_agree_on_padded_tasks():
    """Of a network that mixes no examples."""
    learner, metric = learner_of(), mean_of(mj.mse)

    def padded(key, tasks):
        support, query = WAVES(key, tasks)
        last = jax.random.randint(jax.random.fold_in(key, 1), (tasks, 1), 2, 5)
        order = jax.random.permutation(key, 5)
        present = (jnp.arange(5)[None] <= last)[:, order]
        return mj.Episode(support, mj.Batch(query.inputs, mj.Padded(query[1], present)))

    asked = dict(tasks=20, tasks_per_call=20)
    meta = learner.init(KEY)
    every = mj.evaluate(learner, meta, padded, metric, **asked)
    np.testing.assert_allclose(*(x.mean for x in every[:2]), rtol=1e-5)
    np.testing.assert_allclose(*(x.interval for x in every[:2]), rtol=1e-5)
    asked["inductive_queries"] = 4
    outputs = mj.task_outputs(learner, meta, padded, **asked)
    together, apart = outputs.transductive, outputs.inductive
    for i in range(20):
        present, chosen = (x.targets.present[i] for x in (together, apart))
        there = together.targets.values[i][present].ravel().tolist()
        count = min(4, len(there))
        labels = apart.targets.values[i][chosen].ravel().tolist()
        rows = [there.index(y) for y in labels]
        assert rows == [k * max(4, len(there)) // 4 for k in range(count)]
        np.testing.assert_allclose(
            apart.outputs[i][:, chosen],
            together.outputs[i][:, present][:, rows],
            rtol=1e-4,
            atol=1e-5,
        )
