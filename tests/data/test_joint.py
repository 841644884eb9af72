"""Batches of all classes at once."""

import jax
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.data import ImageStore, joint_batches
from tests.helpers import KEY


def store(classes=3, drawings=4, size=6):
    """Each image says its class and its number in its corners, and nothing else."""
    images = np.zeros((classes, drawings, size, size, 1), np.uint8)
    for k in range(classes):
        for i in range(drawings):
            images[k, i, 0, 0], images[k, i, 0, 1] = 80 * (k + 1), i + 1
    return ImageStore(images, np.array([4, 2, 3]), ("a", "b", "c"))


@pytest.mark.parametrize("rotations", [1, 4])
def test_labels_name_the_class_and_the_turn(rotations):
    batches = joint_batches(store(), 200, rotations=rotations)
    support, query = jax.tree.map(lambda x: x[0], batches(KEY, 1))
    assert batches.classes == 3 * rotations
    labels = np.asarray(query.targets)
    assert set(labels) == set(range(3 * rotations))
    for x, y in zip(np.asarray(query.inputs), labels):
        upright = np.rot90(x, -(y // 3))
        assert round(float(upright[0, 0, 0]) * 255) == 80 * (y % 3 + 1)
        number = round(float(upright[0, 1, 0]) * 255)
        assert 1 <= number <= store().counts[y % 3], "padding is never drawn"
    np.testing.assert_array_equal(support.inputs, query.inputs)


def test_a_classifier_is_maml_of_no_steps():
    batches = joint_batches(store(), 8)
    model = mj.headed(mj.mlp(36, (8,), 8), mj.dense(8, batches.classes))
    flat = model._replace(apply=lambda p, x: model.apply(p, x.reshape(len(x), -1)))
    learner = mj.maml(flat, mj.cross_entropy, optax.identity(), 0)
    state = mj.fit(learner, optax.sgd(0.5), batches, steps=60, tasks=1)
    query = joint_batches(store(), 100)(KEY, 1).query
    outputs = flat.apply(state.meta, query.inputs[0])
    assert float(mj.cross_entropy(outputs, query.targets[0])) < 1.0


def test_refuses_bad_numbers():
    with pytest.raises(mj.InputError, match="examples must be a whole number"):
        joint_batches(store(), 0)
    with pytest.raises(mj.InputError, match="rotations must be 1 or 4"):
        joint_batches(store(), rotations=2)
