"""Non-maximum suppression against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.detection import Detections, suppress

IMAGES, MOST = 60, 12


def drawn(seed):
    """Boxes of whole numbers, and few scores and classes, so that there are ties."""
    random = np.random.default_rng(seed)
    low = random.integers(0, 6, (IMAGES, MOST, 2))
    corners = np.concatenate([low, low + random.integers(0, 6, low.shape)], -1)
    labels = random.integers(0, 2, (IMAGES, MOST)).astype(np.int32)
    scores = random.integers(0, 5, (IMAGES, MOST)).astype(np.float32)
    scores[random.random(scores.shape) < 0.05] = np.nan
    present = random.random(scores.shape) < 0.9
    return Detections(*map(jnp.asarray, (np.float32(corners), labels, scores, present)))


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union else 0.0


def by_loop(corners, labels, scores, present, limit):
    """Of one image: the best that is left, again and again."""
    left, kept = list(np.flatnonzero(present)), []
    while left:
        best = min(left, key=lambda i: (-np.nan_to_num(scores[i], nan=-1.0), i))
        kept.append(best)
        left.remove(best)
        left = [
            i
            for i in left
            if labels[i] != labels[best] or iou(corners[i], corners[best]) <= limit
        ]
    return np.isin(np.arange(len(labels)), kept)


@pytest.mark.parametrize("limit", [0.3, 0.5, 1.0])
def test_is_that_of_a_loop(limit):
    for seed in range(3):
        detections = drawn(seed)
        kept = jax.jit(suppress, static_argnums=1)(detections, limit)
        expected = [by_loop(*image, limit) for image in zip(*map(np.array, detections))]
        np.testing.assert_array_equal(kept.present, expected)
        dropped = jnp.sum(detections.present) - jnp.sum(kept.present)
        assert (dropped > 0) == (limit < 1)
        for before, after in zip(detections[:3], kept):
            np.testing.assert_array_equal(before, after)


def test_tasks_side_by_side():
    detections = drawn(3)
    tasks = jax.tree.map(lambda x: x.reshape(4, 15, *x.shape[1:]), detections)
    kept = jax.jit(jax.vmap(suppress))(tasks).present.reshape(IMAGES, MOST)
    np.testing.assert_array_equal(kept, jax.jit(suppress)(detections).present)


def test_bad_input():
    detections = drawn(0)
    for limit in (0, 1.5, "half"):
        with pytest.raises(mj.InputError, match="iou must be above 0 and at most 1"):
            suppress(detections, limit)  # pyright: ignore
    with pytest.raises(mj.InputError, match=r"corners \[images, most, 4\] and labels"):
        suppress(detections._replace(corners=detections.corners[:, :3]))
