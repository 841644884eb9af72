"""Episodes of masks and of boxes: what they hold, and that streams hold the same."""

import pickle

import jax
import numpy as np
import pytest

import metajax as mj
from metajax.data import DenseStore, dense_episodes, stream_dense_episodes
from metajax.data.dense.store import find_classes
from metajax.data.records import RowReader
from metajax.data.sampling import fetch_on_host
from metajax.detection import Boxes
from tests.helpers import KEY

N, SIDE, NAMES = 40, 6, ("ant", "bee", "cow", "dog", "eel")
ASK = dict(ways=3, shots=2, queries=3)


def make_store():
    """Images whose first pixel is their number, each of two classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, SIDE, SIDE, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(N)
    masks = np.zeros((N, SIDE, SIDE), np.uint8)
    masks[:, :2] = (np.arange(N) % 5 + 1)[:, None, None]
    masks[:, 2:4, :3] = ((np.arange(N) // 5 + np.arange(N)) % 5 + 1)[:, None, None]
    masks[:, 5] = 255
    return DenseStore(images, masks, make_boxes(rng), NAMES)


def make_boxes(rng):
    """Five objects an image at most, of all classes."""
    low = rng.integers(0, 3, (N, 5, 2))
    corners = np.concatenate([low, low + rng.integers(1, 4, low.shape)], -1)
    labels = rng.integers(0, 5, (N, 5)).astype(np.int32)
    present = rng.random((N, 5)) < 0.8
    return Boxes(corners.astype(np.float32), labels, present)


STORE = make_store()


def numbers(images):
    return np.rint(np.asarray(images)[:, 0, 0, 0] * 255).astype(int)


def sample(episodes, tasks):
    return jax.jit(lambda key: episodes(key, tasks))(KEY)


def tasks_of(targets, tasks=20, **settings):
    episodes = dense_episodes(STORE, **{**ASK, **settings}, targets=targets)
    batch = jax.tree.map(np.asarray, sample(episodes, tasks))
    return [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(tasks)]


def test_masks_by_a_loop():
    contains = find_classes(STORE, "masks")
    seen = set()
    for support, query in tasks_of("masks"):
        shown, asked = numbers(support.inputs), numbers(query.inputs)
        assert not set(shown) & set(asked), "no query image is a support image"
        chosen = []
        for k in range(3):
            rows, asks = shown[2 * k : 2 * k + 2], asked[3 * k : 3 * k + 3]
            assert len({*rows}) == 2 and len({*asks}) == 3, "without replacement"
            where = support.targets[2 * k] == k + 1
            value = STORE.masks[rows[0]][where][0]
            assert contains[value - 1][[*rows, *asks]].all()
            chosen.append(value)
        assert len(set(chosen)) == 3
        seen |= set(chosen)
        for i, row in enumerate(shown):
            mask = STORE.masks[row]
            expected = np.where(np.isin(mask, [*chosen, 255]), 255, 0)
            expected[mask == chosen[i // 2]] = i // 2 + 1
            assert np.array_equal(support.targets[i], expected)
        for target, row in zip(query.targets, asked):
            mask = STORE.masks[row]
            expected = np.where(mask == 255, 255, 0)
            for k, value in enumerate(chosen):
                expected[mask == value] = k + 1
            assert np.array_equal(target, expected)
        inputs = STORE.images[asked].astype(np.float32) / np.float32(255)
        np.testing.assert_allclose(query.inputs, inputs, rtol=1e-6)
    assert seen == {1, 2, 3, 4, 5}
    assert query.targets.dtype == np.int32 and query.inputs.dtype == np.float32


def largest(row, label):
    """The first of the largest objects of a class in an image; None if it has none."""
    corners, labels, present = STORE.boxes
    area = np.prod(corners[row, :, 2:] - corners[row, :, :2], -1)
    own = [j for j in range(5) if present[row, j] and labels[row, j] == label]
    return max(own, key=lambda j: (area[j], -j), default=None)


def test_boxes_by_a_loop():
    corners, labels, present = STORE.boxes
    for support, query in tasks_of("boxes"):
        shown, asked = numbers(support.inputs), numbers(query.inputs)
        assert not set(shown) & set(asked)
        assert support.targets.labels.tolist() == [[0], [0], [1], [1], [2], [2]]
        assert support.targets.present.all(), "just K boxes a class"

        def shows(i, label):
            j = largest(shown[i], label)
            box = support.targets.corners[i, 0]
            return j is not None and np.array_equal(corners[shown[i], j], box)

        options = [
            {c for c in range(5) if shows(2 * k, c) and shows(2 * k + 1, c)}
            for k in range(3)
        ]
        for i, row in enumerate(asked):
            _, named, kept = (x[i] for x in query.targets)
            assert i // 3 in named[kept], "contains its own class"
            assert not (kept & ~present[row]).any()
            assert np.array_equal(
                query.targets.corners[i], np.where(kept[:, None], corners[row], 0)
            )
            for k, label in zip(named[kept], labels[row][kept]):
                assert label in options[k]


def test_the_largest_box_is_the_shot():
    corners = np.zeros((4, 3, 4), np.float32)
    corners[:, 0] = 0, 0, 1, 1
    corners[:, 1] = 0, 0, 2, 3
    corners[:, 2] = 1, 0, 4, 2  # as large
    boxes = Boxes(corners, np.zeros((4, 3), np.int32), np.ones((4, 3), bool))
    store = DenseStore(np.zeros((4, 6, 6, 1), np.uint8), None, boxes, ("ant",))
    episode = sample(dense_episodes(store, 1, 2, 2, targets="boxes"), 1)
    assert episode.support.targets.corners[0].tolist() == [[[0, 0, 2, 3]]] * 2
    assert episode.query.targets.present.all()


def test_only_some_classes():
    allowed = ("eel", "bee")
    contains = find_classes(STORE, "masks")[[4, 1]].any(0)
    for support, query in tasks_of("masks", ways=2, classes=allowed):
        for part in (support, query):
            rows = numbers(part.inputs)
            assert contains[rows].all()
            known = np.isin(STORE.masks[rows], [2, 5])
            assert not part.targets[~known & (STORE.masks[rows] != 255)].any()


@pytest.mark.parametrize("targets", ["masks", "boxes"])
def test_streams_are_the_same(tmp_path, targets):
    np.save(tmp_path / "images.npy", STORE.images)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    store = STORE._replace(images=images)
    resident = dense_episodes(STORE, **ASK, targets=targets)
    stream = stream_dense_episodes(store, **ASK, targets=targets)
    expected = sample(resident, 10)
    fetched = fetch_on_host(stream, stream.draw(KEY, 10))
    for other in (sample(stream, 10), jax.jit(stream.make)(fetched)):
        same = jax.tree.map(lambda a, b: bool((a == b).all()), expected, other)
        assert all(jax.tree.leaves(same))
    like = stream.fetched_like(10)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), (like, fetched))
    assert shapes[0] == shapes[1]


def test_a_mapped_array_is_mapped_again(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(12, dtype=np.float32).reshape(4, 3))
    reader = RowReader(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    again = pickle.loads(pickle.dumps(reader))
    assert isinstance(again.images, np.memmap)
    assert again(np.array([[3], [0]])).tolist() == [[[9, 10, 11]], [[0, 1, 2]]]


def refused(store=STORE, **settings):
    with pytest.raises(mj.InputError) as caught:
        dense_episodes(store, **{**ASK, **settings})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_too_few_images():
    said = refused(shots=4, queries=9)
    assert "5 of 5 classes are in too few images: ant has 14 of 19" in said
    assert "4 shots + 9 queries of each class, and as many as the support" in said
    masks = np.zeros((7, 4, 4), np.uint8)
    masks[:4], masks[4:6] = 1, 2
    images = np.zeros((7, 4, 4, 1), np.uint8)
    store = DenseStore(images, masks, None, ("ant", "bee", "cow"))
    said = refused(store, ways=2, shots=1, queries=2)
    assert (
        "2 of 3 classes are in too few images: bee has 2 of 3, cow has 0 of 3" in said
    )
    assert "support images of its other classes" not in said
    assert "leave classes out with classes" in said
    assert dense_episodes(store, 1, 1, 3, classes=["ant"])


def test_just_enough_images():
    """The count of images that a class needs is met by every draw."""
    masks = np.zeros((6, 4, 4), np.uint8)
    masks[:, :2], masks[:, 2:] = 1, 2  # both in each
    store = DenseStore(np.zeros((6, 4, 4, 1), np.uint8), masks, None, ("ant", "bee"))
    store.images[:, 0, 0, 0] = np.arange(6)
    assert "2 of 2 classes are in too few" in refused(store, ways=2, shots=2, queries=3)
    batch = sample(dense_episodes(store, 2, 2, 2), 50)
    for support, query in zip(batch.support.inputs, batch.query.inputs):
        assert not {*numbers(support)} & {*numbers(query)}


BAD = {
    "images": (dict(images=STORE.images[..., 0]), "images must be uint8"),
    "masks": (dict(masks=STORE.masks[:, 1:]), "masks must be uint8[40, 6, 6]"),
    "values": (dict(names=NAMES[:4]), "masks must hold 0 to 4"),
    "none": (dict(masks=None), 'no masks; use targets="boxes"'),
}
BAD_BOXES = {
    "rows": (dict(labels=STORE.boxes.labels[1:]), "boxes must have corners"),
    "large": (dict(corners=STORE.boxes.corners + 4), "inside of the 6x6 images"),
    "inside out": (
        dict(corners=STORE.boxes.corners[..., [2, 3, 0, 1]]),
        "got x=4, y=3, w=-3, h=-1 in image 0",
    ),
    "label": (dict(labels=STORE.boxes.labels + 1), "labels of boxes must be 0 to 4"),
}


@pytest.mark.parametrize("fields, words", BAD.values(), ids=BAD.keys())
def test_bad_stores(fields, words):
    assert words in refused(STORE._replace(**fields))


@pytest.mark.parametrize("fields, words", BAD_BOXES.values(), ids=BAD_BOXES.keys())
def test_bad_boxes(fields, words):
    store = STORE._replace(boxes=STORE.boxes._replace(**fields))
    assert words in refused(store, targets="boxes")


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(ways=6), "ways must be at most the number of classes, 5, got 6"),
        (dict(shots=0), "shots must be a whole number of at least 1"),
        (dict(targets="depth"), 'targets must be one of "masks", "boxes"'),
        (dict(classes=["ant", "bea"]), "no class 'bea'; did you mean bee?"),
        (dict(classes=["ant", "ant"]), "must be distinct, got ant twice"),
        (dict(classes="ant"), "must be a list of names"),
        (dict(classes=["ant", "bee"]), "number of classes, 2, got 3"),
    ],
)
def test_bad_settings(settings, words):
    assert words in refused(**settings)


def test_workers_must_be_counted():
    with pytest.raises(mj.InputError, match="workers"):
        stream_dense_episodes(STORE, **ASK, workers=-1)
