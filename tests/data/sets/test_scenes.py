"""Episodes of scenes: what is on a page, and what is asked of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.data.sets import scenes as module
from metajax.data.sets.pages import Page, Painted
from tests.helpers import KEY

PAGE = Page(size=20, side=8, channels=1)
WAYS, SHOTS, QUERIES = 3, 2, 2


def store(classes=6, per_class=4, side=8, channels=1):
    """Full squares, of which the brightness tells the class and the drawing."""
    images = np.zeros((classes, per_class, side, side, channels), np.uint8)
    for i in range(classes):
        for j in range(per_class):
            images[i, j] = 100 + 20 * i + 2 * j
    names = tuple(f"class{i}" for i in range(classes))
    return mj.data.ImageStore(images, np.full(classes, per_class), names)


def scenes(*sizes, page=PAGE, **settings):
    return mj.data.scenes(store(), *sizes, page=page, **settings)


def drawn(sampler, tasks=8, key=KEY):
    return jax.device_get(jax.jit(sampler.__call__, static_argnums=1)(key, tasks))


@pytest.fixture
def pasted(monkeypatch):
    """`pasted(...)` draws episodes whose inputs are what is pasted on each page.

    Of each character: its class, its drawing and its label, `int[..., characters, 3]`.
    """

    def paint(key, pasted, page, *, centred=False):
        numbers = jnp.round(jnp.max(pasted.drawings, (1, 2)) * 255).astype(jnp.int32)
        numbers = numbers - 100
        shown = jnp.stack([numbers // 20, numbers % 20 // 2, pasted.labels], -1)
        return Painted(shown, jnp.zeros((1, 1), jnp.int32), jnp.zeros((len(shown), 4)))

    monkeypatch.setattr(module, "paint", paint)
    return lambda *sizes, **settings: drawn(scenes(*sizes, **settings), tasks=30)


@pytest.mark.parametrize("same", [False, True])
def test_what_is_pasted(pasted, same):
    clutter = dict(characters=5, objects=3, same_drawing=same)
    support, query = pasted(WAYS, SHOTS, QUERIES, **clutter)
    alone, pages = support.inputs, query.inputs
    assert alone.shape == (30, WAYS * SHOTS, 1, 3)
    assert pages.shape == (30, WAYS * QUERIES, 5, 3)
    for task in range(30):
        shown = alone[task].reshape(WAYS, SHOTS, 3)
        classes = shown[:, 0, 0]
        assert len(set(classes)) == WAYS and np.all(shown[..., 0] == classes[:, None])
        np.testing.assert_array_equal(shown[..., 2], [[1, 1], [2, 2], [3, 3]])
        assert all(len(set(row[:, 1])) == SHOTS for row in shown)
        for place, page in enumerate(pages[task]):
            others, objects = page[:2], page[2:]
            assert not np.any(others[:, 2]) and not set(others[:, 0]) & set(classes)
            assert objects[-1, 2] == 1 + place // QUERIES, "its own class is on top"
            np.testing.assert_array_equal(objects[:, 0], classes[objects[:, 2] - 1])
            of_support = [
                number in shown[label - 1, :, 1] for _, number, label in objects
            ]
            assert all(of_support) if same else not any(of_support)
    assert set(pages[:, :, :2, 0].ravel()) == set(range(6)), "all of the other classes"
    assert set(pages[:, :, 2, 2].ravel()) == {1, 2, 3}


def test_queries_of_a_class_show_different_drawings(pasted):
    _, query = pasted(WAYS, SHOTS, QUERIES)
    top = query.inputs[:, :, -1].reshape(30, WAYS, QUERIES, 3)
    assert np.all(top[:, :, 0, 1] != top[:, :, 1, 1])


def test_no_character_beside_the_objects(pasted):
    _, query = pasted(2, 1, 1, characters=2, objects=2)
    assert query.inputs.shape == (30, 2, 2, 3) and np.all(query.inputs[..., 2] > 0)


def test_masks_and_boxes_are_of_the_same_pages():
    clutter = dict(characters=4, objects=2)
    masks, boxes = (
        drawn(scenes(WAYS, SHOTS, QUERIES, targets=t, **clutter))
        for t in ("masks", "boxes")
    )
    for ours, theirs in zip(masks, boxes):  # two programs round differently
        np.testing.assert_allclose(ours.inputs, theirs.inputs, atol=1e-5)
    assert masks.query.inputs.shape == (8, WAYS * QUERIES, 20, 20, 1)
    assert masks.support.inputs.shape == (8, WAYS * SHOTS, 8, 8, 1)
    assert masks.query.targets.dtype == np.int32
    assert set(np.unique(masks.query.targets)) == {0, 1, 2, 3}
    for batch, labels in zip(masks, boxes):
        corners, names, present = labels.targets
        assert present.all() and corners.min() >= 0 and corners.max() <= 20
        for task, n in np.ndindex(names.shape[:2]):
            mask, label = batch.targets[task, n], names[task, n, -1]
            rows, columns = np.nonzero(mask == label + 1)
            same = corners[task, n][names[task, n] == label]
            (left, top), (right, bottom) = same[:, :2].min(0), same[:, 2:].max(0)
            assert rows.min() >= top and columns.min() >= left
            assert rows.max() < bottom and columns.max() < right
    assert boxes.query.targets.corners.shape == (8, WAYS * QUERIES, 2, 4)
    assert boxes.support.targets.corners.shape == (8, WAYS * SHOTS, 1, 4)


def test_the_box_of_one_object_bounds_its_mask():
    masks, boxes = (drawn(scenes(3, 1, 3, targets=t)) for t in ("masks", "boxes"))
    seen = masks.query.targets.reshape(-1, 20, 20)
    for mask, box in zip(seen, boxes.query.targets.corners.reshape(-1, 4)):
        rows, columns = np.nonzero(mask)
        bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(bounds, box)


def test_a_support_page_is_in_the_middle():
    page = PAGE._replace(rotation=0.0, shear=0.0)
    support, _ = drawn(scenes(2, 1, 1, page=page), tasks=2)
    np.testing.assert_array_equal(
        support.targets,
        np.ones_like(support.targets) * np.array([1, 2]).reshape(1, 2, 1, 1),
    )


def test_a_key_is_an_episode():
    sampler = scenes(2, 1, 1, characters=3, objects=2)
    call = jax.jit(sampler.__call__, static_argnums=1)
    first, again, other = (call(jax.random.key(seed), 2) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.any(first.query.inputs != other.query.inputs)
    staged = jax.jit(lambda key: sampler.make(sampler.draw(key, 2)))(jax.random.key(1))
    for ours, theirs in zip(jax.tree.leaves(staged), jax.tree.leaves(first)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert sampler.fetching is None


def test_a_page_of_256_characters():
    page = Page(size=8, side=4, channels=1)
    _, query = drawn(scenes(1, 1, 1, characters=256, page=page), tasks=1)
    assert np.any(query.targets == 1) and set(np.unique(query.targets)) == {0, 1}


def test_places_of_a_page_are_taken():
    clutter = dict(characters=6, objects=6, targets="boxes")

    def overlap(places):
        page = PAGE._replace(size=40, places=places)
        boxes = drawn(scenes(3, 1, 2, page=page, **clutter)).query.targets.corners
        low = np.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
        high = np.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
        return np.sum(np.prod(np.maximum(high - low, 0), -1) * ~np.eye(6, dtype=bool))

    assert overlap(8) < 0.5 * overlap(1)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(characters=0), "characters must be a whole number of at least 1, got 0"),
        (dict(objects=0), "objects must be a whole number of at least 1, got 0"),
        (dict(objects=5), "objects must be at most the 4 characters of a page, got 5"),
        (dict(queries=0), "queries must be a whole number of at least 1"),
        (dict(targets="circles"), 'targets must be one of "masks", "boxes"'),
        (dict(ways=6), "scenes need a class for what is beside the 6 ways, got 6"),
        (dict(ways=7), "7"),
        (dict(shots=4), "5"),
        (dict(page=Page(size=4, side=8)), "the side of a drawing must be at most"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(mj.InputError, match=message) as caught:
        mj.data.scenes(store(), **({"queries": 1} | settings))
    assert "\n" not in str(caught.value)


def test_refuses_drawings_of_another_form():
    with pytest.raises(mj.InputError, match="of one channel, got 8x8x3"):
        mj.data.scenes(store(channels=3), queries=1)
    wide = store()._replace(images=np.zeros((6, 4, 8, 9, 1), np.uint8))
    with pytest.raises(mj.InputError, match="square drawings .* got 8x9x1"):
        mj.data.scenes(wide, queries=1)
