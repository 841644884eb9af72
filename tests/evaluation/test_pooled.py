"""Metrics that are no mean over tasks: evaluated, reported, resumed, and observed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import metrics
from metajax.experiments.best import Best, best_checkpoint
from metajax.experiments.figures import learning_curve
from metajax.reporting import JsonLines, Progress, read_rows
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY

CLASSES, SIZE = 3, 6
PIXELS = mj.mlp(inputs=1, hidden=(8,), outputs=CLASSES)


def apply(params, pictures):
    """Of each pixel independently: `float[n, size, size, classes]`."""
    pictures = pictures.values if isinstance(pictures, Padded) else pictures
    logits = PIXELS.apply(params, pictures.reshape(-1, 1))
    return logits.reshape(*pictures.shape[:-1], CLASSES)


def loss(outputs, labels):
    return mj.cross_entropy(outputs.reshape(-1, CLASSES), labels.reshape(-1))


LEARNER = mj.maml(mj.Model(PIXELS.init, apply), loss, optax.sgd(0.1), 2)
METRIC = metrics.mean_iou(CLASSES)


def scenes(key, tasks):
    """Pictures whose brightness says the class, with noise."""

    def batch(key, n):
        keys = jax.random.split(key)
        labels = jax.random.randint(keys[0], (tasks, n, SIZE, SIZE), 0, CLASSES)
        noise = jax.random.normal(keys[1], labels.shape)
        return Batch((labels.astype(noise.dtype) - 1 + 0.3 * noise)[..., None], labels)

    return Episode(*(batch(k, n) for k, n in zip(jax.random.split(key), (2, 4))))


def padded(key, tasks):
    """The same, of which a task has one to four queries."""
    support, query = scenes(key, tasks)
    last = jax.random.randint(jax.random.fold_in(key, 1), (tasks, 1), 0, 4)
    present = jnp.arange(4)[None] <= last
    whole = jnp.ones((tasks, 2), bool)
    return Episode(
        Batch(*(Padded(x, whole) for x in support)),
        Batch(*(Padded(x, present) for x in query)),
    )


def iou(guesses, labels, counted):
    """By numpy, of arrays of any one shape."""
    both, either = (
        [op(guesses[counted] == c, labels[counted] == c).sum() for c in range(CLASSES)]
        for op in (np.logical_and, np.logical_or)
    )
    return np.mean(np.divide(both, either))


@pytest.mark.parametrize("sampler", [scenes, padded])
def test_pools_all_tasks_at_each_step(sampler):
    meta, asked = LEARNER.init(KEY), dict(tasks=16, inductive_queries=3)
    found = mj.evaluate(LEARNER, meta, sampler, METRIC, **asked, tasks_per_call=3)
    outputs = mj.task_outputs(LEARNER, meta, sampler, **asked)
    for score, (logits, labels) in zip((found.transductive, found.inductive), outputs):
        present = np.ones(logits.shape[:1] + logits.shape[2:3], bool)
        if isinstance(labels, Padded):
            labels, present, _ = labels
        counted = np.broadcast_to(present[..., None, None], labels.shape)
        for k in range(3):
            expected = iou(logits[:, k].argmax(-1), labels, counted)
            np.testing.assert_allclose(score.mean[k], expected, rtol=1e-12)
        assert score.interval[-1] > 0


def test_labels_are_checked_before_it_runs():
    with pytest.raises(mj.InputError, match="labels in 0..2, got"):
        wrong = lambda key, tasks: scenes(key, tasks)._replace(  # noqa: E731
            query=Batch(jnp.ones((tasks, 1, 2, 2, 1)), jnp.full((tasks, 1, 2, 2), 3))
        )
        mj.evaluate(LEARNER, LEARNER.init(KEY), wrong, METRIC, tasks=4)


def test_goes_on_to_the_same_bits_and_reads_as_it_is_formatted(tmp_path):
    asked = dict(tasks=8, tasks_per_call=2, unfinished=tmp_path / "records.npz")
    meta, calls = LEARNER.init(KEY), iter(range(9))
    with pytest.raises(mj.StoppedError, match="stopped after 4 of 8"):
        mj.evaluate(
            LEARNER, meta, scenes, METRIC, **asked, stop=lambda: next(calls) > 1
        )
    with np.load(tmp_path / "records.npz") as file:
        assert file["together.union"].shape == (2, 2, 3, CLASSES)
    calls = iter(range(9))  # of which it needs two
    resumed = mj.evaluate(
        LEARNER, meta, scenes, METRIC, **asked, stop=lambda: next(calls) > 1
    )
    whole = mj.evaluate(LEARNER, meta, scenes, METRIC, tasks=8, tasks_per_call=2)
    lines = mj.report(whole).splitlines()
    assert lines[-1].startswith("metric mean_iou (%), tasks 8")
    assert f"{100 * whole.transductive.mean[2]:.2f} ± " in lines[3]
    for a, b in zip(resumed[0] + resumed[1], whole[0] + whole[1]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("relaxed")
def test_an_observer_of_training_validates_by_it(tmp_path):
    rows, kept = JsonLines(tmp_path / "metrics.jsonl"), mj.Checkpoints(tmp_path / "all")
    best = Best(tmp_path, METRIC, kept)

    class Validation:
        """Writes a row of the metric, and keeps the best state."""

        def start(self, state):
            pass

        def record(self, state, metrics):
            asked = dict(tasks=4, inductive=False)
            found = mj.evaluate(LEARNER, state.meta, scenes, METRIC, **asked)
            value, interval = (float(x[-1]) for x in found.transductive)
            row = {METRIC.name: value, f"{METRIC.name}_interval": interval}
            rows.write({"step": int(state.step), "split": "validation", **row})
            best.offer(state)

    with Progress(60, 4, metrics=METRIC.logged()) as progress:
        mj.fit(
            LEARNER,
            optax.adam(1e-2),
            scenes,
            steps=60,
            tasks=4,
            steps_per_call=20,
            checkpoints=kept,
            observers=(rows, progress, Validation()),
        )
    best.prune()
    read = read_rows(tmp_path / "metrics.jsonl")
    values = [row[METRIC.name] for row in read if row["split"] == "validation"]
    assert len(values) == 3 and values[-1] > values[0]
    (step,) = best_checkpoint(tmp_path).steps()
    assert step == 20 * (1 + int(np.argmax(values)))
    learning_curve(read, METRIC, tmp_path)
    assert (tmp_path / "learning_curve.png").exists()


def pairs(key, tasks):
    """Numbers of two classes; of the ten queries, six or more are present."""
    keys = jax.random.split(key)
    labels = jnp.tile(jnp.arange(2), (tasks, 5))
    numbers = jax.random.normal(keys[0], labels.shape) + labels.astype(jnp.float32)
    last = jax.random.randint(keys[1], (tasks, 1), 5, 10)
    present = jnp.arange(10)[None] <= last
    batch = Batch(numbers[..., None], Padded(labels, present))
    return Episode(batch, batch)


def test_area_under_the_curve_of_padded_tasks():
    learner = mj.maml(mj.mlp(1, (4,), 2), mj.cross_entropy, optax.sgd(0.1), 1)
    meta = learner.init(KEY)
    found = mj.evaluate(learner, meta, pairs, metrics.auc, tasks=6)
    outputs = mj.task_outputs(learner, meta, pairs, tasks=6)
    logits, (labels, present, _) = outputs.transductive
    for k in range(2):
        margins = logits[:, k, :, 1] - logits[:, k, :, 0]
        one, other = (margins[present & (labels == y)] for y in (1, 0))
        wins = (one[:, None] > other) + 0.5 * (one[:, None] == other)
        np.testing.assert_allclose(found.transductive.mean[k], wins.mean(), rtol=1e-12)
    assert "auc, tasks 6" in mj.report(found)


def test_what_finish_must_return():
    metric = mj.Metric("odd", mj.mse, lambda x: (x.mean(), x.std()), METRIC.better)
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    with pytest.raises(mj.InputError, match=r"odd must .* of shape \(2,\), got"):
        mj.evaluate(learner, learner.init(KEY), mj.data.sinusoid(5, 5), metric, tasks=2)
