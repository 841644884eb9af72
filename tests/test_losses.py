import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax.types import Padded
from tests.helpers import KEY


def test_cross_entropy_equals_optax():
    logits, labels = jax.random.normal(KEY, (6, 5)), jnp.array([0, 1, 2, 3, 4, 0])
    ours = mj.cross_entropy(logits, labels)
    theirs = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_shows(label):
    logits, labels = jnp.zeros((2, 3)), jnp.array([0, label])
    assert np.isnan(jax.jit(mj.cross_entropy)(logits, labels))
    for measure in (mj.cross_entropy, mj.accuracy):
        with pytest.raises(mj.InputError, match=r"labels must lie in 0\.\.2 "):
            measure(logits, labels)


def test_labels_of_padding_are_not_looked_at():
    targets = Padded(jnp.array([0, 7]), jnp.array([True, False]))
    logits = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    assert mj.losses.over_present(mj.accuracy)(logits, targets) == 1
    with pytest.raises(mj.InputError, match=r"got 7\.\.7"):
        other = targets._replace(present=~targets.present)
        mj.losses.over_present(mj.cross_entropy)(logits, other)


@pytest.mark.parametrize("measure", [mj.cross_entropy, mj.accuracy])
def test_one_logit_is_not_taken_for_a_class(measure):
    with pytest.raises(mj.InputError, match="at least 2, got 1; for a single logit"):
        measure(jnp.array([[2.0], [3.0]]), jnp.array([1, 1]))


def test_probabilities_of_one_are_labels(float64):
    logits = jax.random.normal(KEY, (6, 5), jnp.float64)
    labels = jnp.array([0, 1, 2, 3, 4, 0])
    soft = jnp.eye(5)[labels]
    for targets in (soft, soft.astype(jnp.float32)):
        for measure in (mj.cross_entropy, mj.accuracy):
            ours, plain = measure(logits, targets), measure(logits, labels)
            np.testing.assert_allclose(ours, plain, rtol=1e-15)
        ours = jax.grad(mj.cross_entropy)(logits, targets)
        plain = jax.grad(mj.cross_entropy)(logits, labels)
        np.testing.assert_allclose(ours, plain, rtol=1e-14, atol=1e-16)


def test_cross_entropy_of_probabilities_equals_optax(float64):
    keys = jax.random.split(KEY)
    logits = jax.random.normal(keys[0], (6, 5), jnp.float64)
    soft = jax.nn.softmax(jax.random.normal(keys[1], (6, 5), jnp.float64))
    ours = mj.cross_entropy(logits, soft)
    np.testing.assert_allclose(
        ours, optax.softmax_cross_entropy(logits, soft).mean(), rtol=1e-14
    )
    expected = (jax.nn.softmax(logits) - soft) / 6
    np.testing.assert_allclose(
        jax.grad(mj.cross_entropy)(logits, soft), expected, atol=1e-15
    )
    right = np.argmax(logits, 1) == np.argmax(soft, 1)
    assert float(mj.accuracy(logits, soft)) == right.mean()
    assert 0 < right.mean() < 1


def test_mse_and_accuracy():
    assert mj.mse(jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [1.0]])) == 2.5
    outputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert mj.accuracy(outputs, jnp.array([0, 1, 1, 0])) == 0.75


def test_refuses_what_would_broadcast():
    with pytest.raises(mj.InputError, match="targets must have shape"):
        mj.mse(jnp.zeros((4, 1)), jnp.zeros(4))
    for measure in (mj.accuracy, mj.cross_entropy):
        with pytest.raises(mj.InputError, match="targets must have shape"):
            measure(jnp.zeros((3, 3)), jnp.zeros((3, 3), jnp.int32))


@pytest.mark.parametrize("measure", [mj.cross_entropy, mj.accuracy])
def test_labels_are_whole_numbers(measure):
    with pytest.raises(mj.InputError, match="labels must be integers, got float32"):
        measure(jnp.zeros((2, 4)), jnp.array([0.5, 3.5]))
    with pytest.raises(mj.InputError, match=r"probabilities, floats of shape \(2, 4\)"):
        measure(jnp.zeros((2, 4)), jnp.array([0.5, 3.5]))
    with pytest.raises(mj.InputError, match="targets must have shape"):
        measure(jnp.zeros((2, 4)), jnp.zeros((2, 3)))


def test_gaussian_is_the_density(float64):
    outputs = jax.random.normal(KEY, (6, 4), jnp.float64)
    targets = jnp.linspace(-3.0, 3.0, 12).reshape(6, 2)
    total = 0.0
    for (m1, m2, s1, s2), row in zip(np.asarray(outputs), np.asarray(targets)):
        for mean, raw, y in ((m1, s1, row[0]), (m2, s2, row[1])):
            scale = 0.1 + 0.9 * np.log(1 + np.exp(raw))
            density = np.exp(-0.5 * ((y - mean) / scale) ** 2)
            total -= np.log(density / np.sqrt(2 * np.pi * scale**2))
    np.testing.assert_allclose(mj.gaussian(outputs, targets), total / 12, rtol=1e-12)
    means = mj.of_mean(mj.mse)(outputs, targets)
    np.testing.assert_allclose(means, np.mean((outputs[:, :2] - targets) ** 2))


def test_gaussian_refuses_other_shapes():
    with pytest.raises(mj.InputError, match="two outputs for each value"):
        mj.gaussian(jnp.zeros((5, 3)), jnp.zeros((5, 1)))
    with pytest.raises(mj.InputError, match=r"targets must have shape \(5, 1\)"):
        mj.gaussian(jnp.zeros((5, 2)), jnp.zeros((5, 2)))


def test_a_loss_over_ways_needs_equally_many_examples_per_class():
    said = "per class, got 3 examples of 2 classes; use cross_entropy"
    with pytest.raises(mj.InputError, match=said):
        mj.cross_entropy_over_ways(jnp.zeros((3, 2)), jnp.array([0, 1, 1]))


def pixels(key=KEY):
    """Logits of three classes, and labels of which a third is missing."""
    logits = jax.random.normal(key, (2, 4, 3, 3), jnp.float64)
    labels = np.arange(24).reshape(2, 4, 3) % 4
    return logits, jnp.asarray(np.where(labels == 3, mj.losses.UNLABELLED, labels))


def test_pixel_cross_entropy_is_a_mean_over_labelled_pixels(float64):
    logits, labels = pixels()
    kept = np.asarray(labels) != 255
    expected = mj.cross_entropy(logits[kept], labels[kept])
    ours = mj.pixel_cross_entropy(logits, labels)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    small = mj.pixel_cross_entropy(logits, labels.astype(jnp.uint8))
    np.testing.assert_allclose(small, expected, rtol=1e-12)


def test_pixels_without_a_label_have_no_part(float64):
    logits, labels = pixels()
    slopes = jax.grad(mj.pixel_cross_entropy)(logits, labels)
    missing = np.asarray(labels) == 255
    assert not np.any(slopes[missing]) and np.all(np.any(slopes[~missing], -1))
    huge = jnp.where(missing[..., None], 1e300, logits)
    np.testing.assert_array_equal(
        mj.pixel_cross_entropy(huge, labels), mj.pixel_cross_entropy(logits, labels)
    )
    check_grads(
        jax.jit(lambda z: mj.pixel_cross_entropy(z, labels)), (logits,), order=2
    )


def test_of_no_labelled_pixel_the_loss_is_zero(float64):
    logits, labels = pixels()
    nothing = jnp.full_like(labels, 255)
    value, slopes = jax.value_and_grad(mj.pixel_cross_entropy)(logits, nothing)
    assert value == 0 and not np.any(slopes)


@pytest.mark.parametrize("label", [3, -1, 254])
def test_a_pixel_of_another_class_shows(float64, label):
    logits, labels = pixels()
    wrong = labels.at[0, 0, 0].set(label)
    assert np.isnan(jax.jit(mj.pixel_cross_entropy)(logits, wrong))
    with pytest.raises(mj.InputError, match=r"labels must lie in 0\.\.2 "):
        mj.pixel_cross_entropy(logits, wrong)


def test_pixel_cross_entropy_refuses(float64):
    logits, labels = pixels()
    with pytest.raises(mj.InputError, match=r"targets must have shape \(2, 4, 3\)"):
        mj.pixel_cross_entropy(logits, labels[:, :2])
    with pytest.raises(mj.InputError, match="labels must be integers, got float64"):
        mj.pixel_cross_entropy(logits, labels.astype(float))
    with pytest.raises(mj.InputError, match="labels must be integers, got float64"):
        mj.pixel_cross_entropy(logits, jax.nn.softmax(logits))
    with pytest.raises(mj.InputError, match="at least 2, got 1"):
        mj.pixel_cross_entropy(logits[..., :1], jnp.zeros_like(labels))


def test_a_logit_of_nan_is_no_prediction():
    logits = jnp.array([[jnp.nan] * 3, [1.0, jnp.nan, 2.0], [0.0, 1.0, 0.0]])
    labels = jnp.array([0, 1, 1])
    for targets in (labels, jnp.eye(3)[labels]):
        assert float(mj.accuracy(logits, targets)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("dtype, ways", [(jnp.uint8, 300), (jnp.int8, 200)])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_few_bits_of_labels_tell_all_classes_apart(dtype, ways, transform):
    """300 classes of 8 bits would be 256, the first ones twice."""
    logits = jax.random.normal(KEY, (3, ways))
    labels = jnp.array([0, 5, 100])
    for measure in (mj.cross_entropy, mj.accuracy, mj.score_mse):
        found = transform(measure)(logits, labels.astype(dtype))
        np.testing.assert_allclose(found, measure(logits, labels), rtol=1e-6)


def test_255_is_no_label_of_signed_bytes():
    labels = jnp.array([[[1, -1]]], jnp.int8)
    assert np.isnan(jax.jit(mj.pixel_cross_entropy)(jnp.zeros((1, 1, 2, 2)), labels))


@pytest.mark.parametrize("derive", [jax.grad, jax.jacfwd, jax.hessian])
def test_padding_has_no_derivative(float64, derive):
    """The root's is infinite at padding, where outputs and targets are zeros."""

    def root(outputs, targets):
        return jnp.sqrt(jnp.mean((outputs - targets) ** 2))

    x, present = jnp.array([[1.0], [2.0], [0.0]]), jnp.array([True, True, False])
    padded = Padded(2 * x, present)
    loss = mj.losses.over_present(root)

    def mean(w):
        return (root(w**2 * x[:1], 2 * x[:1]) + root(w**2 * x[1:2], 2 * x[1:2])) / 2

    derived = derive(lambda w: loss(w**2 * x, padded))(0.5)
    assert abs(derived) > 1
    np.testing.assert_allclose(derived, derive(mean)(0.5), rtol=1e-13)


@pytest.mark.parametrize("soft", [False, True])
def test_a_class_whose_logit_is_minus_infinity_has_no_part(float64, soft):
    logits = jax.random.normal(KEY, (4, 3), jnp.float64)
    labels = jnp.array([0, 1, 2, 0])
    masked = jnp.concatenate([logits, jnp.full((4, 1), -jnp.inf)], axis=1)
    few, many = (jnp.eye(n)[labels] if soft else labels for n in (3, 4))
    for derive in (jax.value_and_grad, jax.hessian):
        expected = derive(mj.cross_entropy)(logits, few)
        found = derive(lambda z: mj.cross_entropy(masked.at[:, :3].set(z), many))(
            logits
        )
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-16),
            found,
            expected,
        )
    assert mj.cross_entropy(masked, labels.at[0].set(3)) == np.inf


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64])
def test_accuracy_takes_targets_of_numpy(dtype):
    labels = np.array([0, 2, 1])
    targets = np.eye(3)[labels] if dtype is np.float64 else labels.astype(dtype)
    assert mj.accuracy(jnp.eye(3), targets) == np.float32(1 / 3)
    assert jax.jit(lambda z: mj.accuracy(z, targets))(jnp.eye(3)) > 0


def test_errors_of_complex_numbers_are_their_distances(float64):
    """Their squares would be complex, and could sum up to nothing."""
    outputs, targets = jnp.array([3 + 4j, 1j]), jnp.array([1 + 0j, 1])
    assert mj.mse(outputs, targets) == (4 + 16 + 1 + 1) / 2
    assert mj.metrics.rmse(outputs, targets) == np.sqrt(11)
    assert jax.grad(mj.mse)(targets, targets).tolist() == [0, 0]
    check_grads(lambda z: mj.mse(z, targets), (outputs,), 2)
