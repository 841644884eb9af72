"""Tasks of the classes of one group each."""

import numpy as np
import pytest

import metajax as mj
from metajax.data import ImageStore, grouped_tasks

SIZES = {"Greek": 7, "Latin": 4, "runes/old": 2}


def store(counts=3):
    """Every image of a class has the class's number."""
    names = tuple(f"{group}/{k}" for group, n in SIZES.items() for k in range(n))
    pixels = np.arange(len(names), dtype=np.uint8)[:, None, None, None, None]
    images = np.broadcast_to(pixels, (len(names), 3, 2, 2, 1))
    return ImageStore(images, np.full(len(names), counts), names)


def test_no_two_tasks_share_a_class_and_none_has_two_groups():
    batch, groups = grouped_tasks(store(), ways=2, examples=2)
    assert groups == ("Greek",) * 3 + ("Latin",) * 2 + ("runes/old",)
    classes = np.round(255 * batch.inputs[:, ::2, 0, 0, 0]).astype(int)
    assert len(np.unique(classes)) == classes.size == 12
    own = [name.rpartition("/")[0] for name in store().names]
    assert [{own[c] for c in task} for task in classes] == [{g} for g in groups]
    assert batch.targets.tolist() == [[0, 0, 1, 1]] * 6
    again, _ = grouped_tasks(store(), ways=2, examples=2)
    np.testing.assert_array_equal(batch.inputs, again.inputs)


def test_groups_take_turns_and_small_classes_are_left_out():
    counts = np.full(13, 3)
    counts[:4] = 1
    with pytest.warns(UserWarning, match="^4 of the 13 classes have fewer than 3 imag"):
        batch, groups = grouped_tasks(store(counts), 2, examples=3, tasks=4)
    assert groups == ("Greek", "Latin", "Latin", "runes/old")
    assert batch.inputs.shape[1] == 6 and 255 * batch.inputs.min() >= 4


def test_names_without_groups_are_one():
    images, counts, _ = store()
    flat = ImageStore(images, counts, tuple("abcdefghijklm"))
    assert grouped_tasks(flat, ways=5, examples=1)[1] == ("", "")


def test_bad_input():
    with pytest.raises(mj.InputError, match="expected a group of at least 8 classes"):
        grouped_tasks(store(), ways=8, examples=1)
    with pytest.raises(mj.InputError, match="no class has 4 images.* largest has 3"):
        grouped_tasks(store(), ways=2, examples=4)
    with pytest.raises(mj.InputError, match="examples must be a whole number of at"):
        grouped_tasks(store(), ways=2, examples=0)
