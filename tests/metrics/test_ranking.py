"""The area under the ROC curve against all pairs, SciPy, and leaving tasks out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import metajax as mj
from metajax.metrics import auc
from metajax.metrics.ranking import Ranked
from metajax.types import Padded


def drawn(seed, tasks=8, steps=2, examples=7):
    """Scores of few values, so that there are ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (tasks, 1, examples)).repeat(steps, 1)
    scores = np.round(random.normal(size=labels.shape) + labels, 1)
    present = (random.random((tasks, 1, examples)) < 0.8).repeat(steps, 1)
    return Ranked(scores, labels, present)


def by_pairs(scores, labels, present):
    pairs = [
        1.0 * (p > n) + 0.5 * (p == n)
        for p in scores[present & (labels == 1)]
        for n in scores[present & (labels == 0)]
    ]
    return np.mean(pairs)


def test_is_that_of_all_pairs():
    records = drawn(0)
    value, interval = auc.finish(records)
    for k in range(2):
        step = [x[:, k] for x in records]
        np.testing.assert_allclose(value[k], by_pairs(*step), rtol=1e-12)
        without = [by_pairs(*(np.delete(x, i, 0) for x in step)) for i in range(8)]
        square = 7 / 8 * np.sum((without - np.mean(without)) ** 2)
        np.testing.assert_allclose(interval[k], 1.959964 * square**0.5, rtol=1e-10)


def test_is_the_mann_whitney_statistic():
    scores, labels, present = (x[:, 0] for x in drawn(3, tasks=40, examples=20))
    one, other = (scores[present & (labels == k)] for k in (1, 0))
    u = scipy.stats.mannwhitneyu(one, other).statistic
    value, _ = auc.finish(Ranked(*(x[:, None] for x in (scores, labels, present))))
    np.testing.assert_allclose(value[0], u / (len(one) * len(other)), rtol=1e-12)


def test_the_interval_covers():
    """Tasks have offsets of their own; the truth is P(N(1, 4) > 0) for pairs of two."""
    random, held = np.random.default_rng(1), 0
    truth = scipy.stats.norm.cdf(1 / 2)  # a task's own pairs are few
    for _ in range(200):
        labels = np.tile([0, 1], (80, 1, 3))
        scores = random.normal(size=labels.shape) + random.normal(size=(80, 1, 1))
        value, interval = auc.finish(Ranked(scores + labels, labels, labels >= 0))
        held += abs(value[0] - truth) <= interval[0]
    assert 180 <= held <= 199


def test_outputs_may_be_scores_or_logits():
    labels = jnp.array([1, 0, 1])
    scores, logits = jnp.array([0.5, 1.0, 2.0]), jnp.array([[0, 0.5], [0, 1], [1, 3]])
    same = [auc.of_task(x, labels) for x in (scores, scores[:, None], logits)]
    for record in same[1:]:
        jax.tree.map(np.testing.assert_array_equal, record, same[0])
    padded = auc.of_task(scores, Padded(labels, jnp.array([True, True, False])))
    records = Ranked(*(np.asarray(x)[None, None] for x in padded))
    assert auc.finish(records)[0] == [0.0]


def test_of_one_class_there_is_no_area():
    records = drawn(0)
    value, interval = auc.finish(records._replace(labels=np.ones_like(records.labels)))
    assert np.isnan(value).all() and np.isnan(interval).all()
    scores = np.where(np.arange(7) == 0, np.nan, records.scores)  # it diverged
    assert np.isnan(auc.finish(records._replace(scores=scores))[0]).all()


@pytest.mark.parametrize("outputs", [(2, 3), (2, 3, 1), (2, 3, 2)])
def test_refuses_labels_of_more_axes(outputs):
    with pytest.raises(
        mj.InputError, match=r"labels of shape \[n\] .* labels \(2, 3\)"
    ):
        auc.of_task(jnp.zeros(outputs), jnp.zeros((2, 3), jnp.int32))


def test_where_one_task_has_all_of_a_class_there_is_no_interval():
    labels = np.zeros((8, 1, 7), int)
    labels[3, 0, :2] = 1
    scores = np.random.default_rng(0).normal(size=labels.shape)
    value, interval = auc.finish(Ranked(scores, labels, labels >= 0))
    assert 0 < value[0] < 1 and np.isnan(interval[0])


def test_refuses_what_is_no_two_classes():
    with pytest.raises(mj.InputError, match="auc needs labels 1 .* got 2"):
        auc.of_task(jnp.zeros(2), jnp.array([1, 2]))
    with pytest.raises(mj.InputError, match=r"outputs \(2, 3\)"):
        auc.of_task(jnp.zeros((2, 3)), jnp.array([1, 0]))
    records = drawn(0)
    with pytest.raises(mj.InputError, match="got 2"):
        auc.finish(records._replace(labels=records.labels * 2))
