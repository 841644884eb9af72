"""Average precision against pycocotools, plain loops, and leaving tasks out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.detection import Boxes, Detections
from metajax.metrics import COCO, average_precision
from metajax.metrics.matching import Matches
from metajax.types import Batch, Episode, Padded
from tests.metrics.coco import CLASSES, by_loops, by_pycocotools, drawn

FEW = (0.5, 0.6, 0.9)


def value_of(metric, detections, targets):
    """After one step, with the interval."""
    pair = jax.tree.map(jnp.asarray, (detections, targets))
    records = jax.jit(jax.vmap(metric.of_task))(*pair)
    records = jax.tree.map(lambda x: np.asarray(x)[:, None], records)
    value, interval = metric.finish(records)
    return value.item(), interval.item()


@pytest.mark.parametrize("most", [1, 2, 100])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "real"])
@pytest.mark.parametrize("oracle", [by_loops, by_pycocotools])
def test_is_that_of(oracle, whole, most):
    thresholds = FEW if oracle is by_loops else COCO
    metric = average_precision(CLASSES, thresholds, most=most)
    for seed in range(2):
        pair = drawn(seed, whole)
        expected = oracle(*pair, thresholds, most)
        assert 0.05 < expected < 0.95
        np.testing.assert_allclose(value_of(metric, *pair)[0], expected, atol=1e-9)


@pytest.mark.parametrize("oracle", [by_loops, by_pycocotools])
def test_the_later_of_equal_overlaps_is_taken(oracle):
    """The first detection takes the second object, which leaves the other none."""
    truths = np.float32([[[[0, 0, 2, 2], [2, 0, 4, 2]]]])
    guesses = np.float32([[[[0, 0, 4, 2], [2, 0, 4, 2]]]])
    labels, present = np.zeros((1, 1, 2), np.int32), np.ones((1, 1, 2), bool)
    boxes = Boxes(truths, labels, present)
    detections = Detections(guesses, labels, np.float32([[[2, 1]]]), present)
    value, _ = value_of(average_precision(CLASSES, 0.5), detections, boxes)
    np.testing.assert_allclose(value, 51 / 101)
    np.testing.assert_allclose(value, oracle(detections, boxes, [0.5]))


@pytest.mark.parametrize("shift", [0.0, 1 / 3, 12.7])
def test_rounding_does_not_decide(shift):
    """Of boxes whose overlap is the threshold, and of a hundredth less."""
    heights = jnp.array([round(100 * threshold) for threshold in COCO], jnp.float32)

    def boxes(heights):
        zeros, top = jnp.zeros_like(heights), jnp.full_like(heights, shift)
        return jnp.stack([zeros, top, zeros + 7, top + heights], -1)[:, None]

    labels, there = jnp.zeros((10, 1), jnp.int32), jnp.ones((10, 1), bool)
    truths = Boxes(boxes(jnp.full(10, 100.0)), labels, there)
    for less in (0, 1):
        guesses = Detections(boxes(heights - less), labels, jnp.ones((10, 1)), there)
        matched = average_precision(1).of_task(guesses, truths).matched[:, 0]
        np.testing.assert_array_equal(matched, np.tri(10, k=-less))


def test_the_interval_is_of_leaving_tasks_out():
    detections, boxes = drawn(5, tasks=16)
    value, interval = value_of(average_precision(CLASSES, FEW), detections, boxes)
    without = []
    for task in range(16):
        rest = [
            type(x)(*(np.delete(y, task, 0) for y in x)) for x in (detections, boxes)
        ]
        without.append(by_loops(*rest, FEW))
    square = 15 / 16 * np.sum((np.array(without) - np.mean(without)) ** 2)
    np.testing.assert_allclose(interval, 1.959964 * square**0.5, rtol=1e-9)
    few = jax.tree.map(lambda x: x[:9], (detections, boxes))
    assert np.isnan(value_of(average_precision(CLASSES, FEW), *few)[1])


def simulated(random, tasks):
    """A class of 4 objects a task, of which each task finds a share of its own."""
    share = random.beta(3, 2, (tasks, 1, 1, 1))
    matched = random.random((tasks, 1, 1, 6)) < np.where(np.arange(6) < 4, share, 0)
    scores = random.normal(size=matched.shape) + matched
    nothing = np.zeros(matched.shape, int)
    objects = np.full((tasks, 1, 1), 4)
    return Matches(
        scores, nothing, scores > -9, matched[..., None], objects, 0 * objects[..., 0]
    )


def test_the_interval_covers():
    """Of 100 evaluations, of so many tasks that some are left out together."""
    random, held = np.random.default_rng(6), 0
    finish = average_precision(1, 0.5).finish
    (truth,), _ = finish(simulated(random, 20_000))
    for _ in range(100):
        (value,), (interval,) = finish(simulated(random, 150))
        held += abs(value - truth) <= interval
    assert 88 <= held <= 99


def test_images_and_classes_that_are_padding_do_not_count():
    detections, boxes = drawn(7)
    random = np.random.default_rng(7)
    images, allowed = random.random((12, 4)) < 0.6, np.ones((12, 4, CLASSES), bool)
    allowed[:6, :, 2] = False
    metric = average_precision(CLASSES, 0.5)
    value, _ = value_of(metric, detections, Padded(boxes, images, allowed))
    known = images[..., None] & (
        (detections.labels < 2) | (np.arange(12) >= 6)[:, None, None]
    )
    expected = by_loops(
        detections._replace(present=detections.present & known),
        boxes._replace(present=boxes.present & images[..., None]),
        [0.5],
    )
    np.testing.assert_allclose(value, expected, atol=1e-9)


def test_there_is_no_value_of_nothing_nor_of_nan():
    detections, boxes = drawn(8)
    metric = average_precision(CLASSES, 0.5)
    nothing = boxes._replace(present=np.zeros_like(boxes.present))
    assert np.isnan(value_of(metric, detections, nothing)).all()
    none = jax.tree.map(lambda x: x[:, :, :0], boxes)
    assert np.isnan(value_of(metric, detections, none)).all()
    unseen = jax.tree.map(lambda x: x[:, :, :0], detections)
    assert value_of(metric, unseen, boxes)[0] == 0.0
    diverged = detections._replace(scores=np.full_like(detections.scores, np.nan))
    assert np.isnan(value_of(metric, diverged, boxes)).all()
    absent = diverged._replace(present=np.zeros_like(boxes.present, shape=(12, 4, 9)))
    assert value_of(metric, absent, boxes)[0] == 0.0


def test_names_and_equality():
    metric = average_precision(3, 0.5)
    assert metric == average_precision(3, [0.5]) != average_precision(3, 0.75)
    assert metric.name == "ap50" and average_precision(3).name == "ap50_95"
    assert hash(metric) == hash(average_precision(3, 0.5))
    with pytest.raises(mj.InputError, match="ap50 pools its tasks"):
        metric(None, None)


def test_bad_input():
    detections, boxes = jax.tree.map(lambda x: jnp.asarray(x[0]), drawn(9))
    with pytest.raises(mj.InputError, match="classes must be a whole number of at le"):
        average_precision(0)
    for iou in (0.0, 1.1, (0.5, -1)):
        with pytest.raises(mj.InputError, match="iou must be above 0 and at most 1"):
            average_precision(2, iou)
    with pytest.raises(mj.InputError, match="at least one threshold"):
        average_precision(2, ())
    of_task = average_precision(CLASSES).of_task
    with pytest.raises(mj.InputError, match="needs Detections, got tuple; give it dec"):
        of_task((), boxes)
    with pytest.raises(mj.InputError, match="needs Boxes as targets, got Array"):
        of_task(detections, boxes.labels)
    with pytest.raises(mj.InputError, match="needs Detections of corners .* 4 images"):
        of_task(jax.tree.map(lambda x: x[:3], detections), boxes)
    with pytest.raises(mj.InputError, match="needs Boxes of corners"):
        of_task(detections, boxes._replace(present=boxes.present[0]))
    two = average_precision(2)
    with pytest.raises(mj.InputError, match="labels in 0..1, got .* others"):
        two.of_task(detections, boxes)
    records = jax.jit(two.of_task)(detections, boxes)
    with pytest.raises(mj.InputError, match="labels in 0..1, got .* others"):
        two.finish(jax.tree.map(lambda x: np.asarray(x)[None, None], records))


def test_evaluates_a_detector():
    """By a learner whose boxes are 4 pixels off before its step, and none after it."""

    def sampler(key, tasks):
        low = jax.random.uniform(key, (tasks, 3, 2, 2), maxval=20.0)
        corners = jnp.concatenate([low, low + 8], -1)
        labels = jnp.tile(jnp.arange(2), (tasks, 3, 1))
        batch = Batch(corners, Boxes(corners, labels, labels >= 0))
        return Episode(batch, batch)

    def trajectory(meta, support):
        return jnp.array([4.0, 0.0])

    def predict(adapted, corners):
        return corners + adapted, jnp.zeros(corners.shape[:2])

    def decode(outputs):
        corners, scores = outputs
        labels = jnp.tile(jnp.arange(2), (len(corners), 1))
        return Detections(corners, labels, scores, labels >= 0)

    learner = mj.Learner(
        init=lambda key: (),
        adapt=lambda meta, support: trajectory(meta, support)[-1],
        predict=predict,
        loss=lambda meta, task: (jnp.zeros(()), {}),
        trajectory=trajectory,
    )
    metric = average_precision(2, 0.5, decode=decode)
    found = mj.evaluate(learner, (), sampler, metric, tasks=12, tasks_per_call=6)
    for score in (found.transductive, found.inductive):
        np.testing.assert_array_equal(score.mean, [0.0, 1.0])
        np.testing.assert_array_equal(score.interval, [0.0, 0.0])
    assert "metric ap50 (%), tasks 12" in mj.report(found)
