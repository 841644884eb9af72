"""Targets, loss and peaks of centres against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.detection import (
    Boxes,
    CentreMaps,
    centre_loss,
    centre_targets,
    decode,
    pool_boxes,
)
from metajax.losses import over_present
from metajax.ops.masking import never
from metajax.types import Padded
from tests.helpers import KEY

STRIDE, ROWS, COLUMNS, WAYS = 4, 6, 5, 3
LOSS = jax.jit(centre_loss(STRIDE))
PEAKS = jax.jit(decode, static_argnums=(1, 2))


@jax.jit
def targets_of(boxes):
    """Of one image, in a list of one."""
    return centre_targets(first_of(boxes), (ROWS, COLUMNS, WAYS), STRIDE)


def boxes_of(*objects, room=4):
    """Of one image, from (left, top, right, bottom, label), padded with nonsense."""
    corners = np.full((1, room, 4), 7.0, np.float32)
    labels = np.full((1, room), 1, np.int32)
    for i, (*sides, label) in enumerate(objects):
        corners[0, i], labels[0, i] = sides, label
    present = (np.arange(room) < len(objects))[None]
    return Boxes(*map(jnp.asarray, (corners, labels, present)))


def random_maps(key, images=1, dtype=jnp.float32):
    keys = jax.random.split(key, 3)
    sizes = (WAYS, 2, 2)
    return CentreMaps(
        *(
            jax.random.normal(k, (images, ROWS, COLUMNS, size), dtype)
            for k, size in zip(keys, sizes)
        )
    )


OBJECTS = [(1, 2, 9, 8, 0), (8, 8, 20, 22, 2), (2, 3, 10, 9, 0), (3, 1, 5, 7, 1)]
BEYOND = (17, 21, 30, 31, 1)  # its centre is outside of the map


def spread_by_bisection(w, h):
    """σ, from the shift by which a box overlaps by 0.3."""
    low, high = 0.0, min(w, h) / 2
    for _ in range(100):
        r = (low + high) / 2
        low, high = (r, high) if (w - 2 * r) * (h - 2 * r) > 0.3 * w * h else (low, r)
    return (2 * low + 1) / 6


def targets_by_loop(objects):
    """Heat, centres, and (place, size, offset) of the object that owns each place."""
    heat = np.zeros((ROWS, COLUMNS, WAYS))
    owners = {}
    for left, top, right, bottom, label in objects:
        w, h = (right - left) / STRIDE, (bottom - top) / STRIDE
        x, y = (left + right) / 2 / STRIDE, (top + bottom) / 2 / STRIDE
        column, row = min(int(x), COLUMNS - 1), min(int(y), ROWS - 1)
        sigma = spread_by_bisection(w, h)
        for i in range(ROWS):
            for j in range(COLUMNS):
                bump = np.exp(-((i - row) ** 2 + (j - column) ** 2) / 2 / sigma**2)
                heat[i, j, label] = max(heat[i, j, label], bump)
        one = (w * h, (w, h), (x - column, y - row), label)
        if (row, column) not in owners or one[0] < owners[row, column][0]:
            owners[row, column] = one
    return heat, owners


def first_of(boxes):
    return jax.tree.map(lambda x: x[0], boxes)


@pytest.mark.parametrize("objects", [OBJECTS, [*OBJECTS[:2], BEYOND], []])
def test_targets_equal_a_loop(objects):
    targets = jax.device_get(targets_of(boxes_of(*objects)))
    heat, owners = targets_by_loop(objects)
    np.testing.assert_allclose(targets.heat, heat, atol=1e-6)
    np.testing.assert_array_equal(targets.centres, heat == 1)
    for i in range(ROWS):
        for j in range(COLUMNS):
            size, offset = owners[i, j][1:3] if (i, j) in owners else ((0, 0), (0, 0))
            np.testing.assert_allclose(targets.size[i, j], size, rtol=1e-6)
            np.testing.assert_allclose(targets.offset[i, j], offset, atol=1e-6)


def test_of_two_in_one_cell_the_smaller_counts_and_then_the_first():
    large, small, equal = (0, 0, 8, 8, 0), (2, 2, 6, 6, 0), (3, 3, 7, 7, 1)
    for objects in ([large, small, equal], [small, large, equal]):
        targets = jax.device_get(targets_of(boxes_of(*objects)))
        assert targets.size[1, 1].tolist() == [1, 1]
        assert targets.offset[1, 1].tolist() == [0, 0]
    targets = jax.device_get(targets_of(boxes_of(equal, small)))
    assert targets.offset[1, 1].tolist() == [0.25, 0.25]


def loss_by_loop(maps, objects, size_weight, offset_weight):
    heat, owners = targets_by_loop(objects)
    p = 1 / (1 + np.exp(-np.asarray(maps.heat[0], float)))
    hit, miss = (1 - p) ** 2 * np.log(p), (1 - heat) ** 4 * p**2 * np.log(1 - p)
    total = -np.where(heat == 1, hit, miss).sum()
    maps = jax.device_get(maps)
    for place, (_, size, offset, _) in owners.items():
        total += size_weight * np.abs(maps.size[0][place] - np.array(size)).sum()
        total += offset_weight * np.abs(maps.offset[0][place] - np.array(offset)).sum()
    return total / max(1, len(objects))


def test_loss_equals_a_loop():
    maps = random_maps(KEY)
    loss = jax.jit(centre_loss(STRIDE, size_weight=0.2, offset_weight=0.7))
    for objects in (OBJECTS, [BEYOND], []):
        expected = loss_by_loop(maps, objects, 0.2, 0.7)
        assert loss(maps, boxes_of(*objects)) == pytest.approx(expected, rel=1e-5)


def test_a_list_without_room_is_an_empty_image():
    maps = random_maps(KEY)
    expected = pytest.approx(float(LOSS(maps, boxes_of())), rel=1e-6)
    assert LOSS(maps, boxes_of(room=0)) == expected


def two_images():
    pair = boxes_of(*OBJECTS), boxes_of(BEYOND)
    return jax.tree.map(lambda *x: np.concatenate(x), *pair)


def test_loss_is_a_mean_over_images_and_over_those_present():
    maps, boxes = jax.device_get((random_maps(KEY, 2), two_images()))
    one = [
        float(LOSS(*jax.tree.map(lambda x, i=i: x[i : i + 1], (maps, boxes))))
        for i in (0, 1)
    ]
    assert LOSS(maps, boxes) == pytest.approx(np.mean(one), rel=1e-6)
    padded = Padded(boxes, np.array([False, True]))
    present = jax.jit(over_present(centre_loss(STRIDE)))
    assert present(maps, padded) == pytest.approx(one[1], rel=1e-6)


def test_second_derivatives(float64):
    maps, boxes = random_maps(KEY, 2, jnp.float64), two_images()
    loss = jax.jit(lambda maps: LOSS(maps, boxes))
    check_grads(loss, (maps,), order=2, eps=1e-5)


@pytest.mark.parametrize("logit", [-200.0, 200.0, float(never(jnp.float32))])
def test_certain_maps_have_finite_slopes(logit):
    maps = random_maps(KEY)._replace(heat=jnp.full((1, ROWS, COLUMNS, WAYS), logit))
    slopes = jax.jit(jax.grad(LOSS))(maps, boxes_of())
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slopes))


def perfect_maps(boxes):
    targets = targets_of(boxes)
    heat = jnp.log(targets.heat + 1e-6) + 3.0
    return CentreMaps(*(x[None] for x in (heat, targets.size, targets.offset)))


def test_decoding_is_the_inverse_of_the_targets():
    objects = [OBJECTS[0], OBJECTS[1], BEYOND]
    boxes = boxes_of(*objects)
    decoded = PEAKS(perfect_maps(boxes), STRIDE, 3)
    order = np.argsort(decoded.corners[0, :, 0])
    np.testing.assert_allclose(
        decoded.corners[0][order], [o[:4] for o in objects], rtol=1e-5
    )
    assert decoded.labels[0][order].tolist() == [0, 2, 1]
    np.testing.assert_allclose(decoded.scores, 1 / (1 + np.exp(-3)), rtol=1e-5)


def peaks_by_loop(heat):
    """(logit, -place, row, column, class) of each peak, the best first."""
    found = []
    for k in range(WAYS):
        for i in range(ROWS):
            for j in range(COLUMNS):
                near = [
                    (heat[a, b, k], -a, -b)
                    for a in range(max(0, i - 1), min(ROWS, i + 2))
                    for b in range(max(0, j - 1), min(COLUMNS, j + 2))
                ]
                if max(near) == (heat[i, j, k], -i, -j):
                    found.append((heat[i, j, k], -i, -j, -k))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("levels", [2, 4, 50])
def test_peaks_equal_a_loop_on_plateaus_too(levels):
    heat = jax.random.randint(KEY, (1, ROWS, COLUMNS, WAYS), 0, levels)
    maps = random_maps(KEY)._replace(heat=heat.astype(jnp.float32))
    decoded = PEAKS(maps, STRIDE, 100)  # more than there are places
    maps, decoded = jax.device_get((maps, decoded))
    peaks = peaks_by_loop(maps.heat[0])
    assert int(decoded.present.sum()) == len(peaks)
    for n, (logit, i, j, k) in enumerate(peaks):
        assert int(decoded.labels[0, n]) == -k
        np.testing.assert_allclose(decoded.scores[0, n], 1 / (1 + np.exp(-logit)), 1e-6)
        centre = (decoded.corners[0, n, :2] + decoded.corners[0, n, 2:]) / 2
        offset = maps.offset[0, -i, -j]
        np.testing.assert_allclose(
            centre, STRIDE * (offset + np.array([-j, -i])), rtol=1e-4
        )


def test_a_flat_map_has_one_peak_a_class_and_none_where_it_never_is():
    heat = jnp.zeros((1, ROWS, COLUMNS, WAYS)).at[..., 1].set(never(jnp.float32))
    decoded = PEAKS(random_maps(KEY)._replace(heat=heat), STRIDE, 100)
    assert decoded.labels[decoded.present].tolist() == [0, 2]
    assert decoded.corners.shape == (1, 100, 4)


def test_a_detector_that_diverged_scores_nan():
    heat = jnp.zeros((2, 2, 2, 1)).at[0, 1, 1, 0].set(jnp.nan)
    sides = jnp.ones((2, 2, 2, 2))
    detections = jax.device_get(PEAKS(CentreMaps(heat, sides, sides), 4, 3))
    assert np.isnan(detections.scores[0]).all() and detections.present[0].all()
    assert np.isfinite(detections.scores[1]).all()
    truth = Boxes(
        jnp.zeros((2, 1, 4)), jnp.zeros((2, 1), jnp.int32), jnp.ones((2, 1), bool)
    )
    ap50 = mj.metrics.average_precision(1, 0.5)
    record = jax.tree.map(
        lambda x: np.asarray(x)[None, None], jax.jit(ap50.of_task)(detections, truth)
    )
    assert np.isnan(ap50.finish(record)[0]).all()


def test_pooling_equals_a_loop():
    features = jax.random.normal(KEY, (ROWS, COLUMNS, 2))
    corners = jnp.array([[1.0, 2, 9, 7], [18.0, 20, 40, 50], [30.0, 30, 40, 40]])
    pool = jax.jit(lambda features: pool_boxes(features, corners, STRIDE))
    features, (means, inside) = jax.device_get((features, pool(features)))
    for m, (left, top, right, bottom) in enumerate(corners.tolist()):
        total, mass = np.zeros(2), 0.0
        for i in range(ROWS):
            for j in range(COLUMNS):
                tall = min(bottom, 4 * i + 4) - max(top, 4 * i)
                wide = min(right, 4 * j + 4) - max(left, 4 * j)
                area = max(tall, 0) * max(wide, 0) / 16
                total, mass = total + area * features[i, j], mass + area
        np.testing.assert_allclose(inside[m], mass, rtol=1e-6)
        np.testing.assert_allclose(means[m], total / max(mass, 1e-9), rtol=1e-5)


def test_a_label_out_of_range_shows():
    maps, boxes, loss = random_maps(KEY), boxes_of((1, 2, 9, 8, 3)), centre_loss(4)
    assert np.isnan(jax.jit(loss)(maps, boxes))
    with pytest.raises(mj.InputError, match=r"must lie in 0\.\.2 for a detector of 3"):
        loss(maps, boxes)
    absent = boxes._replace(present=jnp.zeros_like(boxes.present))
    assert np.isfinite(loss(maps, absent))


def test_refuses_other_outputs_and_targets():
    maps, boxes, loss = random_maps(KEY), boxes_of(), centre_loss(STRIDE)
    with pytest.raises(mj.InputError, match="got CentreMaps and list"):
        loss(maps, [])
    with pytest.raises(mj.InputError, match="of as many images, got .2, 6, 5, 3."):
        loss(random_maps(KEY, 2), boxes)
    with pytest.raises(mj.InputError, match="stride must be a whole number"):
        centre_loss(0)
    with pytest.raises(mj.InputError, match="most must be a whole number"):
        decode(maps, STRIDE, 0)
