"""The IoU of each image against loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import metrics
from metajax.metrics import image_iou
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY

IGNORE = 255


def drawn(seed, classes, images=40):
    """Logits, labels of which some do not count, and which images are present.

    The first of five are of the background alone.
    """
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, 2, 4, classes)).astype(np.float32)
    logits[..., 0] += 0.8 * (classes - 1)
    labels = random.choice([0, 0, 0, 0, 1, IGNORE], (images, 2, 4))
    labels[: images // 5], logits[: images // 5, ..., 0] = 0, 9
    labels = np.where(labels == 1, random.integers(1, classes, labels.shape), labels)
    return logits, labels.astype(np.int32), random.random(images) < 0.7


def of_image(logits, labels, threshold):
    """By sets of pixels."""
    pixels = [place for place in np.ndindex(labels.shape) if labels[place] != IGNORE]
    labelled, predicted = {}, {}
    for place in pixels:
        weights = np.exp(logits[place].astype(float))
        guess = int(np.argmax(weights))
        if threshold is not None:
            guess = int(weights[1] / weights.sum() > threshold)
        labelled.setdefault(labels[place], set()).add(place)
        predicted.setdefault(guess, set()).add(place)
    ratios = [
        len(labelled.get(c, set()) & predicted.get(c, set()))
        / len(labelled.get(c, set()) | predicted.get(c, set()))
        for c in (labelled.keys() | predicted.keys()) - {0}
    ]
    return np.mean(ratios) if ratios else 1.0


@pytest.mark.parametrize("classes, threshold", [(2, None), (2, 0.3), (4, None)])
def test_is_that_of_loops(classes, threshold):
    logits, labels, present = drawn(classes, classes)
    each = [of_image(z, y, threshold) for z, y in zip(logits, labels)]
    assert {0.0, 1.0} < set(each)
    metric = image_iou(threshold, ignore=IGNORE)
    found = jax.jit(metric)(logits, labels)
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-6)
    padded = Padded(jnp.asarray(labels), jnp.asarray(present))
    found = jax.jit(metric)(logits, padded)
    np.testing.assert_allclose(found, np.mean(np.array(each)[present]), rtol=1e-6)


def test_of_the_background_alone_is_one():
    labels = jnp.zeros((2, 3), jnp.int32)
    assert image_iou()(jnp.eye(2)[jnp.zeros((2, 3), int)], labels) == 1.0
    nothing = Padded(labels, jnp.zeros(2, bool))
    assert image_iou()(jnp.zeros((2, 3, 2)), nothing) == 0.0


def test_is_a_mean_over_tasks_that_learners_may_log():
    metric = image_iou(0.3)
    assert metric.is_per_task and list(metric.logged()) == ["image_iou"]
    assert metric == image_iou(0.3) != image_iou() and hash(metric) is not None


def test_the_outputs_of_absent_classes_are_not_predicted():
    allowed = jnp.array([[True, True, False]])
    targets = Padded(jnp.array([[1, 0]]), jnp.array([True]), allowed)
    logits = jnp.array([[[0.0, 1.0, 9.0], [1.0, 0.0, 9.0]]])
    assert image_iou()(logits, targets) == 1.0


def test_bad_input():
    logits, labels = jnp.zeros((1, 3, 2)), jnp.array([[0, 1, IGNORE]])
    with pytest.raises(mj.InputError, match="labels in 0..1, got 1 others"):
        image_iou()(logits, labels)
    assert jnp.isnan(jax.jit(image_iou())(logits, labels))
    with pytest.raises(mj.InputError, match=r"needs outputs of shape \(1, 3, 2\)"):
        image_iou()(jnp.zeros((1, 4, 2)), labels)
    with pytest.raises(mj.InputError, match="threshold must be at least 0 and below 1"):
        image_iou(1.0)


def test_a_threshold_of_several_classes():
    p = jnp.array([[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.5, 0.2, 0.3]])
    logits, labels = jnp.log(p)[None], jnp.array([[1, 0, 2]])
    assert float(image_iou(0.3)(logits, labels)) == 1.0
    assert float(image_iou()(logits, labels)) == 0.0  # all is background


def test_evaluates_beside_those_that_pool():
    pixels = mj.mlp(1, (4,), 2)

    def apply(params, images):
        return pixels.apply(params, images.reshape(-1, 1)).reshape(-1, 3, 3, 2)

    def loss(outputs, labels):
        return mj.cross_entropy(outputs.reshape(-1, 2), labels.reshape(-1))

    def sampler(key, tasks):
        bright = jax.random.normal(key, (tasks, 3, 3, 3, 1))
        batch = Batch(bright, (bright[..., 0] > 0.5).astype(jnp.int32))
        return Episode(batch, batch)

    learner = mj.maml(mj.Model(pixels.init, apply), loss, optax.sgd(0.5), 1)
    meta, asked = learner.init(KEY), dict(tasks=4, tasks_per_call=2, inductive=False)
    score = mj.evaluate(learner, meta, sampler, image_iou(0.3), **asked).transductive
    logits, labels = mj.task_outputs(
        learner, meta, sampler, tasks=4, tasks_per_call=2
    ).transductive
    for k in range(2):
        of_tasks = [
            np.mean([of_image(z, y, 0.3) for z, y in zip(*task)])
            for task in zip(logits[:, k], labels)
        ]
        np.testing.assert_allclose(score.mean[k], np.mean(of_tasks), rtol=1e-6)
    foreground = mj.evaluate(learner, meta, sampler, metrics.fb_iou(), **asked)
    whole = mj.evaluate(learner, meta, sampler, metrics.mean_iou(2), **asked)
    np.testing.assert_array_equal(foreground.transductive.mean, whole.transductive.mean)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_a_pixel_of_nan_is_no_background(threshold):
    """The first image is of the background alone, the third one lacks a pixel."""
    labels = jnp.array([[0, 0], [0, 1], [1, 1]])
    logits = 9 * jnp.eye(2)[labels]
    metric = jax.jit(image_iou(threshold))
    assert metric(logits, labels) == 1
    lost = logits.at[:2].set(jnp.nan).at[2, 0].set(jnp.nan)
    np.testing.assert_allclose(metric(lost, labels), (0 + 0 + 1 / 2) / 3, rtol=1e-6)
