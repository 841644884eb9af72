"""Mean IoU against loops over pixels, and its interval against leaving tasks out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.metrics import fb_iou, mean_iou
from metajax.metrics.overlap import Overlap
from metajax.types import Padded

CLASSES, IGNORE = 4, 255
METRIC = mean_iou(CLASSES, ignore=IGNORE)


def drawn(seed, tasks=14, steps=2):
    """Logits, labels of which some do not count, and which examples are present."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(tasks, steps, 3, 5, 4, CLASSES)).astype(np.float32)
    labels = random.integers(0, CLASSES - 1, (tasks, 3, 5, 4)).astype(np.int32)
    labels[random.random(labels.shape) < 0.2] = IGNORE
    return logits, labels, random.random((tasks, 3)) < 0.7


def by_loops(logits, labels, present, classes=CLASSES, merge=lambda label: label):
    """Of one step: sets of pixels, class by class."""
    ratios = []
    for c in range(classes):
        both = either = 0
        for task in range(len(logits)):
            for i in np.flatnonzero(present[task]):
                for place in np.ndindex(labels.shape[2:]):
                    label = labels[task, i][place]
                    guess = merge(int(np.argmax(logits[task, i][place])))
                    if label != IGNORE:
                        both += merge(label) == c and guess == c
                        either += merge(label) == c or guess == c
        if either:
            ratios.append(both / either)
    return np.mean(ratios)


def records(metric, logits, labels, present):
    steps = jax.vmap(metric.of_task, (0, None))
    padded = Padded(jnp.asarray(labels), jnp.asarray(present))
    return jax.device_get(jax.jit(jax.vmap(steps))(jnp.asarray(logits), padded))


@pytest.mark.parametrize(
    "metric, loops",
    [
        (METRIC, by_loops),
        (
            fb_iou(ignore=IGNORE),
            lambda *of_step: by_loops(*of_step, 2, lambda label: min(label, 1)),
        ),
    ],
)
def test_is_that_of_loops(metric, loops):
    logits, labels, present = drawn(0)
    value, interval = metric.finish(records(metric, logits, labels, present))
    for k in range(2):
        expected = loops(logits[:, k], labels, present)
        np.testing.assert_allclose(value[k], expected, rtol=1e-12)
        without = []
        for task in range(14):
            rest = np.arange(14) != task
            without.append(loops(logits[rest, k], labels[rest], present[rest]))
        square = 13 / 14 * np.sum((without - np.mean(without)) ** 2)
        np.testing.assert_allclose(interval[k], 1.959964 * square**0.5, rtol=1e-10)


def test_is_no_mean_over_tasks():
    """A task of one pixel counts one pixel."""
    sizes = np.array([[1, 99], [1, 1]])[:, None], np.array([[1, 100], [2, 1]])[:, None]
    value, _ = mean_iou(2).finish(Overlap(*sizes, np.zeros((2, 1), int)))
    np.testing.assert_allclose(value, [(2 / 3 + 100 / 101) / 2])


def test_a_class_without_a_union_has_no_part():
    value, _ = mean_iou(3).finish(
        Overlap(*np.array([[[[2, 1, 0]]], [[[4, 1, 0]]]]), np.zeros((1, 1), int))
    )
    assert value == [0.75]


def test_the_outputs_of_absent_classes_are_not_predicted():
    metric = mean_iou(2)
    allowed = jnp.array([[True, False]])
    targets = Padded(jnp.array([[0, 0]]), jnp.array([True]), allowed)
    record = metric.of_task(jnp.array([[[0.0, 9.0], [1.0, 0.0]]]), targets)
    assert record.intersection.tolist() == [2, 0]


def test_the_interval_covers():
    """Of 200 evaluations of 40 tasks, of uneven sizes, about 95 % hold the truth."""
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        union = random.integers(5, 50, (40, 1, 2))
        share = random.beta(4, 2, (40, 1, 2))
        both = random.binomial(union, share)
        value, interval = METRIC.finish(Overlap(both, union, np.zeros((40, 1), int)))
        held += abs(value[0] - 2 / 3) <= interval[0]
    assert 180 <= held <= 198


@pytest.mark.parametrize("tasks, covers", [(2, None), (9, None), (30, True)])
def test_of_a_rare_class_there_is_no_interval(tasks, covers):
    """One class is in all of 100 tasks, and one in a few, whose IoU varies much."""
    random, held = np.random.default_rng(2), 0
    none, there = np.zeros((100, 1), int), np.arange(100) < tasks
    for _ in range(200):
        union = 200 * np.stack([np.ones(100, int), there], -1)[:, None]
        both = random.binomial(union, random.beta(2, 1, union.shape))
        value, interval = mean_iou(2).finish(Overlap(both, union, none))
        assert np.isnan(interval[0]) == (covers is None)
        held += abs(value[0] - 2 / 3) <= interval[0]
    assert covers is None or 180 <= held <= 199
    # Pixels that are taken for it elsewhere make it no less rare.
    union[:, :, 1] += 1
    rare = np.isnan(mean_iou(2).finish(Overlap(both, union, none))[1][0])
    assert rare == (covers is None)


def test_foreground_is_any_class():
    """Taking one class for another is no mistake, and two classes are `mean_iou`."""
    labels = jnp.array([[0, 1, 2, 3]])
    record = fb_iou().of_task(jnp.eye(4)[None, jnp.array([0, 2, 3, 1])], labels)
    assert record.intersection.tolist() == record.union.tolist() == [1, 3]
    logits, labels, present = drawn(1)
    metrics = mean_iou(2, ignore=IGNORE), fb_iou(ignore=IGNORE)
    labels = np.where(labels == IGNORE, IGNORE, np.minimum(labels, 1))
    two = [m.finish(records(m, logits[..., :2], labels, present)) for m in metrics]
    np.testing.assert_array_equal(*two)
    assert fb_iou() == fb_iou() != fb_iou(ignore=IGNORE)


@pytest.mark.parametrize("metric", [mean_iou(2), fb_iou()], ids=["mean", "fb"])
@pytest.mark.parametrize("label", [-1, 2, IGNORE])
def test_labels_that_are_no_class_are_refused(metric, label):
    logits = jnp.zeros((1, 3, 2))
    labels = jnp.array([[0, 1, label]])
    with pytest.raises(mj.InputError, match="labels in 0..1, got 1 others"):
        metric.of_task(logits, labels)
    record = jax.jit(metric.of_task)(logits, labels)  # where no label can be looked at
    with pytest.raises(mj.InputError, match="got 1 others"):
        metric.finish(jax.tree.map(lambda x: np.asarray(x)[None, None], record))


def test_refuses_other_shapes():
    with pytest.raises(mj.InputError, match=r"outputs of shape \(1, 3, 2\)"):
        mean_iou(2).of_task(jnp.zeros((1, 3, 4)), jnp.zeros((1, 3), jnp.int32))
    with pytest.raises(mj.InputError, match="integer labels, got float32"):
        mean_iou(2).of_task(jnp.zeros((1, 3, 2)), jnp.zeros((1, 3)))
    with pytest.raises(mj.InputError, match="classes must be"):
        mean_iou(1)
    with pytest.raises(
        mj.InputError, match=r"fb_iou needs .* \(1, 3, 2\) for 2 classes"
    ):
        fb_iou().of_task(jnp.zeros((1, 3, 1)), jnp.zeros((1, 3), jnp.int32))


@pytest.mark.parametrize("metric", [mean_iou(3), fb_iou()])
def test_pixels_of_nan_are_of_no_class(metric):
    labels = jnp.array([[0, 0, 2, 2]])
    logits = jnp.eye(3)[labels].at[0, 0].set(jnp.nan)
    record = jax.jit(metric.of_task)(logits, labels)
    whole = jax.tree.map(lambda x: np.asarray(x)[None, None], record)
    assert metric.finish(whole)[0].tolist() == [(1 / 2 + 1) / 2]
