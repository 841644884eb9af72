import jax
import numpy as np
import pytest

import metajax as mj
from metajax.data import ImageStore, image_episodes
from tests.helpers import KEY


def store(classes=6, per_class=8, size=4, counts=None):
    """Image j of class i is filled with 20 i + j, its corner marked with 255."""
    values = 20 * np.arange(classes)[:, None] + np.arange(per_class)[None]
    images = np.broadcast_to(
        values[:, :, None, None, None], (classes, per_class, size, size, 1)
    ).astype(np.uint8)
    images[:, :, 0, 0] = 255
    counts = np.full(classes, per_class) if counts is None else np.array(counts)
    return ImageStore(images, counts, tuple(f"class {i}" for i in range(classes)))


def values(batch):
    """(class, image) that each input shows."""
    inside = np.rint(np.asarray(batch.inputs)[..., 1, 1, 0] * 255).astype(int)
    return inside // 20, inside % 20


def test_episodes_are_few_shot_tasks():
    episodes = jax.jit(image_episodes(store(), 4, 2, 3), static_argnums=1)(KEY, 50)
    assert episodes.support.inputs.shape == (50, 8, 4, 4, 1)
    classes, images = values(episodes.support)
    query_classes, query_images = values(episodes.query)
    for task in range(50):
        chosen = classes[task].reshape(4, 2)
        assert (chosen == chosen[:, :1]).all()
        assert len(set(chosen[:, 0])) == 4
        query = query_classes[task].reshape(4, 3)
        np.testing.assert_array_equal(query, np.repeat(chosen[:, :1], 3, axis=1))
        drawn = np.concatenate(
            [images[task].reshape(4, 2), query_images[task].reshape(4, 3)], axis=1
        )
        assert all(len(set(row)) == 5 for row in drawn)
    np.testing.assert_array_equal(
        episodes.support.targets[0], np.repeat(np.arange(4), 2)
    )
    assert set(classes.ravel()) == set(range(6))
    assert set(images.ravel()) == set(range(8))


def test_uneven_classes_never_show_their_padding():
    sampler = image_episodes(store(counts=[8, 3, 8, 4, 8, 8]), 6, 1, 2)
    classes, images = values(sampler(KEY, 100).query)
    assert images[classes == 1].max() == 2
    assert images[classes == 3].max() == 3
    assert images[classes == 0].max() == 7


def test_rotations_are_classes_of_their_own():
    sampler = image_episodes(store(classes=2), 8, 1, 1, rotations=4)
    batch = sampler(KEY, 1).support
    classes, _ = values(jax.tree.map(lambda x: x[0], batch))
    images = np.rint(np.asarray(batch.inputs[0, ..., 0]) * 255)
    seen = set()
    for image, number in zip(images, classes):
        plain = np.where(np.arange(16).reshape(4, 4) == 0, 255, image[1, 1])
        turns = [k for k in range(4) if np.array_equal(np.rot90(plain, k), image)]
        assert len(turns) == 1
        seen.add((number, turns[0]))
    assert len(seen) == 8


def test_inputs_are_in_the_unit_interval():
    inputs = image_episodes(store(), 2, 1, 1)(KEY, 4).support.inputs
    assert inputs.dtype == np.float32
    assert inputs.max() == 1.0 and inputs.min() >= 0.0


def test_refuses_what_the_store_cannot_give():
    with pytest.raises(
        mj.InputError, match="ways must be at most the number of classes, 6"
    ):
        image_episodes(store(), 7, 1, 1)
    with pytest.raises(
        mj.InputError, match=r"images a class, 3 \(of class 1\), got 2 \+ 2"
    ):
        image_episodes(store(counts=[8, 3, 8, 8, 8, 8]), 2, 2, 2)
    with pytest.raises(mj.InputError, match="rotations must be 1 or 4"):
        image_episodes(store(), 2, 1, 1, rotations=2)
    wide = store()._replace(images=np.zeros((6, 8, 4, 5, 1), np.uint8))
    with pytest.raises(mj.InputError, match="square"):
        image_episodes(wide, 2, 1, 1, rotations=4)
    with pytest.raises(mj.InputError, match="images must be uint8"):
        image_episodes(store()._replace(images=store().images / 255.0), 2, 1, 1)
    with pytest.raises(mj.InputError, match="one entry for each of 6 classes"):
        image_episodes(store(counts=[8]), 2, 1, 1)
    with pytest.raises(mj.InputError, match="counts must be at most the 8 images"):
        image_episodes(store(counts=[8, 8, 8, 8, 8, 9]), 2, 1, 1)
