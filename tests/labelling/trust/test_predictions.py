"""Predictions and their calibration: against loops, closed forms and a grid."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax

import metajax as mj
from metajax.data.pictures.decoding import decode
from metajax.data.pictures.unlabelled import decode_ahead
from metajax.data.sampling import StagedSampler
from metajax.errors import InputError
from metajax.labelling import (
    PerQueryLearner,
    Predictions,
    ValidationTasks,
    balanced_cross_entropy,
    calibration_error,
    leave_one_out,
    predict_tasks,
    share_interval,
    temperature,
)
from metajax.labelling.trust.calibration import COLDEST, HOTTEST, WEIGHT
from tests.helpers import KEY, image_episode, write_image

SHOTS = 3, 1, 2


def uneven(ways=3):
    """A support set of uneven shots, its classes mingled."""
    whole = image_episode(KEY, ways=ways, shots=3, queries=2)
    rows = np.array([3, 0, 6, 1, 7, 2])  # classes 1, 0, 2, 0, 2, 0
    return jax.tree.map(lambda x: x[rows], whole.support), whole.query


def prototypes(norm="support"):
    body = mj.conv4(3, 4, image_shape=(16, 16, 1), norm=norm).parts[0]
    return mj.learners.prototypical(body, ways=3)


@pytest.mark.parametrize("norm, beside", [("support", False), ("transductive", True)])
def test_queries_do_not_see_each_other(norm, beside):
    support, query = uneven()
    learner = prototypes(norm)
    alone = mj.per_query(learner, at_a_time=2) if beside else learner
    per_query = PerQueryLearner(alone, 3)
    taught = per_query.adapt(meta := learner.init(KEY), support)
    together = per_query.logits(taught, query.inputs)
    for i, x in enumerate(query.inputs):
        inputs = jnp.concatenate([support.inputs, x[None]]) if beside else x[None]
        apart = learner.predict(learner.adapt(meta, support), inputs)[-1]
        np.testing.assert_allclose(together[i], apart, rtol=1e-5, atol=1e-5)
    backwards = per_query.logits(taught, query.inputs[::-1])[::-1]
    np.testing.assert_allclose(together, backwards, rtol=1e-5, atol=1e-5)


def test_one_of_each_class_is_left_out():
    support, _ = uneven()
    learner = prototypes()
    meta = learner.init(KEY)
    result = leave_one_out(PerQueryLearner(learner, 3), meta, support)
    # Class 1 has one example; of 0 and 2 the first ones go, then the second ones; then
    # the third of 0 goes with the first of 2, which was result already.
    logits, labels = [], []
    for out, counted in (((1, 2), (1, 2)), ((3, 4), (3, 4)), ((5, 2), (5,))):
        rest = np.array([i for i in range(6) if i not in out])
        adapted = learner.adapt(meta, jax.tree.map(lambda x: x[rest], support))
        for i in counted:
            logits.append(learner.predict(adapted, support.inputs[i][None])[0])
            labels.append(int(support.targets[i]))
    assert result.labels.tolist() == labels == [0, 2, 0, 2, 0]
    np.testing.assert_allclose(result.logits, logits, rtol=1e-5, atol=1e-5)
    first = leave_one_out(PerQueryLearner(learner, 3), meta, support, most=1)
    np.testing.assert_array_equal(first.logits, result.logits[:2])


def test_nothing_to_leave_out():
    episode = image_episode(KEY, ways=3, shots=1)
    result = leave_one_out(
        PerQueryLearner(learner := prototypes(), 3), learner.init(KEY), episode[0]
    )
    assert result.logits.shape == (0, 3) and not len(result.labels)
    with pytest.raises(InputError, match="a temperature needs examples"):
        temperature(result)
    with pytest.raises(InputError, match="a temperature needs at least 2 classes"):
        temperature(Predictions(np.ones((3, 1)), np.zeros(3, int)))


def test_episodes_are_told_as_tasks_are():
    learner = prototypes()
    per_query, meta = PerQueryLearner(learner, 3), learner.init(KEY)
    episodes = [image_episode(key) for key in jax.random.split(KEY, 2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *episodes)
    result = predict_tasks(
        per_query, meta, ValidationTasks(lambda key, tasks: stacked, 2)
    )
    each = [
        learner.predict(learner.adapt(meta, e.support), e.query.inputs)
        for e in episodes
    ]
    np.testing.assert_allclose(
        result.logits, np.concatenate(each), rtol=1e-4, atol=1e-4
    )
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2] * 2


def test_episodes_that_are_drawn_are_made_one_at_a_time():
    made = []

    class Sampler(StagedSampler):
        make_task = staticmethod(image_episode)

        def make(self, drawn):
            made.append(len(drawn))
            return super().make(drawn)

    learner, sampler = prototypes(), Sampler()
    per_query, meta = PerQueryLearner(learner, 3), learner.init(KEY)
    result = predict_tasks(per_query, meta, ValidationTasks(sampler, 4))
    assert set(made) == {1}
    stacked = sampler(jax.random.key(0), 4)
    whole = predict_tasks(
        per_query, meta, ValidationTasks(lambda key, tasks: stacked, 4)
    )
    np.testing.assert_allclose(result.logits, whole.logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(result.labels, whole.labels)


def random_predictions(seed, count, scale=4.0, classes=3):
    """Logits whose true temperature is `scale`."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(count, classes))
    labels = [draw.choice(classes, p=p) for p in softmax(z, axis=1)]
    return Predictions(scale * z, np.array(labels))


def loss(result, at):
    return -np.sum(
        np.log(
            softmax(result.logits / at, axis=1)[
                np.arange(len(result.labels)), result.labels
            ]
        )
    )


def test_the_temperature_is_the_likeliest():
    own, held = random_predictions(0, 40), random_predictions(1, 200, scale=2.0)
    grid = np.exp(np.linspace(-3, 4, 4001))
    both = [loss(own, t) + WEIGHT / 200 * loss(held, t) for t in grid]
    both_at = temperature(own, held)
    np.testing.assert_allclose(both_at, grid[np.argmin(both)], rtol=2e-3)
    assert temperature(held) < both_at < temperature(own)


def test_the_temperature_is_found_again():
    assert abs(temperature(random_predictions(2, 20_000)) - 4.0) < 0.1


def test_a_few_right_answers_are_no_certainty():
    confident = Predictions(9.0 * np.eye(3), np.arange(3))
    confidence = softmax(confident.logits / temperature(confident), axis=1).max(1)
    np.testing.assert_allclose(confidence, 4 / 5, rtol=1e-6)  # (n + 1)/(n + 2)


def test_what_is_not_finite_has_no_temperature():
    with pytest.raises(InputError, match="finite logits"):
        temperature(Predictions(np.array([[np.nan, 0.0]]), np.array([0])))


def test_the_interval_of_a_share():
    # Wilson's for 8 of 10, from Newcombe, Statistics in Medicine 1998, formula 3.
    low, high = share_interval(8, 10)
    roots = np.roots([1 + 1.959964**2 / 10, -(1.6 + 1.959964**2 / 10), 0.64])
    np.testing.assert_allclose(sorted((low, high)), sorted(roots), rtol=1e-6)
    assert share_interval(0, 4)[0] == 0.0 and share_interval(4, 4)[1] == 1.0


def test_the_calibration_error_by_hand():
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    result = Predictions(np.log(shares), np.array([0, 1, 0, 0]))
    # Two at 0.9, half right; two at 0.6, half right.
    np.testing.assert_allclose(
        calibration_error(result, bins=10), (2 * 0.4 + 2 * 0.1) / 4, rtol=1e-6
    )


def test_every_class_counts_alike():
    """An example thrice is the same as once; of even shots it is the mean."""
    z = jax.random.normal(KEY, (4, 5))
    labels = jnp.array([0, 1, 2, 1])
    rows = jnp.array([0, 0, 0, 1, 2, 3])
    balanced = partial(balanced_cross_entropy, classes=3)
    np.testing.assert_allclose(
        balanced(z[rows], labels[rows]), balanced(z, labels), rtol=1e-6
    )
    even = jnp.array([0, 1, 2])
    np.testing.assert_allclose(
        balanced(z[even], labels[even]),
        mj.cross_entropy(z[even, :3], labels[even]),
        rtol=1e-6,
    )


def test_fewer_classes_than_outputs():
    """The outputs of no class have no part in adaptation: any start of them will do."""
    model = mj.conv4(5, 4, image_shape=(16, 16, 1), norm="support")

    loss_of_three = partial(balanced_cross_entropy, classes=3)
    learner = mj.maml(model, loss_of_three, optax.sgd(0.1), steps=2)
    support, query = uneven()
    meta = learner.init(KEY)
    other = jax.tree.map(lambda x: x, meta)
    bias = other["head"]["bias"]
    other["head"]["bias"] = bias.at[3:].set(7.0)
    found = [
        (per_query := PerQueryLearner(learner, 3)).logits(
            per_query.adapt(m, support), query.inputs
        )
        for m in (meta, other)
    ]
    assert found[0].shape == (6, 3)
    np.testing.assert_array_equal(*found)


def test_files_are_decoded_in_order(tmp_path):
    names = [f"{i:03}.png" for i in range(23)]
    for i, name in enumerate(names):
        write_image(tmp_path / name, 10 * i)
    (tmp_path / names[7]).write_bytes(b"no picture")
    refused = []
    parts = list(
        decode_ahead(tmp_path, names, (4, 4), "L", batch=5, refuse=refused.append)
    )
    assert [name for part in parts for name in part.files] == names[:7] + names[8:]
    assert [part.images.shape for part in parts] == [(5, 4, 4, 1)] * 5
    for part in parts:
        for name, image in zip(part.files, part.images):
            np.testing.assert_array_equal(image, decode(tmp_path / name, (4, 4), "L"))
    assert not parts[-1].images[2:].any()
    assert [bad.file for bad in refused] == [names[7]]
    assert str(tmp_path) not in refused[0].reason


def test_no_more_than_a_few_batches_are_read(tmp_path, monkeypatch):
    from metajax.data.pictures import unlabelled

    begun = []

    def counted(path, size, mode, bits, fit):
        begun.append(path)
        return np.zeros((*size, 1), np.uint8)

    monkeypatch.setattr(unlabelled, "decode", counted)
    names = [str(i) for i in range(1000)]
    parts = decode_ahead(tmp_path, names, (4, 4), "L", batch=5, refuse=print)
    filters = list(warnings.filters)
    next(parts)
    assert warnings.filters == filters  # what computes meanwhile has its own
    assert len(begun) <= 5 + 5 * unlabelled.AHEAD
    parts.close()


def test_temperatures_have_bounds():
    wrong = Predictions(np.eye(3), np.array([1, 2, 0]))
    assert temperature(wrong) == HOTTEST
    nothing = Predictions(np.zeros((0, 3)), np.zeros(0, int))
    nearly_equal = Predictions(1e-6 * np.eye(3), np.arange(3))
    assert temperature(nothing, nearly_equal) == COLDEST
