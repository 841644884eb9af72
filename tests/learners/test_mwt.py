"""A classifier of adapted weights, against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax import learners
from metajax.types import Batch, Episode
from tests.helpers import KEY, gradient, relative

WEIGHTS = 2 * 4 + 4 + 4 * 4 + 4 + 4 + 1  # of the field
STEPS, RATE, WEIGHT = 3, 0.02, 0.3


def networks(dtype=jnp.float64):
    field = mj.siren(2, (4, 4), 1, dtype=dtype)
    return field, mj.mlp(WEIGHTS, (5,), 3, activation=jnp.tanh, dtype=dtype)


def signal(dtype=jnp.float64):
    """Nine points, five of them to be predicted."""
    x = jax.random.uniform(KEY, (9, 2), dtype, minval=-1)
    y = jnp.sin(4 * x[:, :1]) + x[:, 1:]
    labels = jnp.full(5, 2, jnp.int32)
    query = Batch(x[4:], mj.LabelledValues(y[4:], labels))
    return Episode(Batch(x[:4], y[:4]), query)


def plain(field, classifier, *, detached):
    """The outer loss by a Python loop of `jax.grad`."""

    def outer(meta, episode):
        support, query = episode
        fit = lambda params, batch, targets: jnp.mean(  # noqa: E731
            (field.apply(params, batch.inputs) - targets) ** 2
        )
        params = start = meta["params"]
        for _ in range(STEPS):
            slope = jax.grad(fit)(params, support, support.targets)
            params = jax.tree.map(
                lambda p, a, g: p - a * g, params, meta["inner"], slope
            )
        change = jax.tree.map(lambda p, q: (p - q).ravel(), params, start)
        seen = jnp.concatenate(
            [c / jnp.sqrt(jnp.mean(c**2) + 1e-12) for c in jax.tree.leaves(change)]
        )
        seen = jax.lax.stop_gradient(seen) if detached else seen
        logits = classifier.apply(meta["classifier"], seen[None])[0]
        named = -jax.nn.log_softmax(logits)[query.targets.labels[0]]
        return named + WEIGHT * fit(params, query, query.targets.values)

    return outer


@pytest.mark.parametrize("detached", [False, True])
def test_the_meta_gradient_is_that_of_a_loop(float64, detached):
    field, classifier = networks()
    features = {True: learners.detached_weight_changes, False: learners.weight_changes}
    learner = mj.mwt(
        field,
        classifier,
        mj.mse,
        RATE,
        steps=STEPS,
        reconstruction=WEIGHT,
        features=features[detached],
    )
    meta, episode = learner.init(KEY), signal()
    oracle = jax.value_and_grad(plain(field, classifier, detached=detached))
    value, slope = jax.jit(oracle)(meta, episode)
    np.testing.assert_allclose(learner.loss(meta, episode)[0], value, rtol=1e-10)
    assert relative(jax.jit(gradient(learner))(meta, episode), slope) < 1e-10


def test_all_points_have_the_label_of_their_signal():
    learner = mj.mwt(*networks(jnp.float32), mj.mse, RATE, steps=STEPS)
    meta, (support, query) = learner.init(KEY), signal(jnp.float32)
    adapted = learner.adapt(meta, support)
    outputs = learner.predict(adapted, query.inputs)
    assert outputs.values.shape == (5, 1) and outputs.labels.shape == (5, 3)
    np.testing.assert_array_equal(outputs.labels, outputs.labels[:1].repeat(5, 0))


def test_pixels_are_classified_in_the_order_of_rows():
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, 1)).astype(np.uint8)
    store = mj.data.ImageStore(images, np.full(2, 3), ("a", "b"))
    support, query = mj.data.labelled_fields(store)(KEY, 8)
    rows = jax.vmap(lambda batch: learners.sorted_values(None, None, batch))(support)
    whole = images.reshape(-1, 16)
    for row, label in zip(np.round(255 * np.asarray(rows)), query.targets.labels):
        (place,) = np.flatnonzero((whole == row).all(1))
        assert place // 3 == label[0]


def test_it_learns_which_of_two_signals_it_was_fitted_to():
    """Ramps to the right and down, at first told apart by chance alone."""

    def ramps(key, tasks):
        keys = jax.random.split(key)
        labels = jax.random.randint(keys[0], (tasks, 1), 0, 2)
        x = jax.random.uniform(keys[1], (tasks, 8, 2), minval=-1.0)
        along = jnp.where(labels == 0, x[..., 0], x[..., 1])[..., None]
        batch = Batch(x, along)
        every = jnp.broadcast_to(labels, (tasks, 8))
        return Episode(batch, Batch(x, mj.LabelledValues(along, every)))

    field, classifier = mj.siren(2, (8,), 1, omega=3.0), mj.mlp(33, (8,), 2)
    metric = mj.metrics.label_accuracy
    learner = mj.mwt(field, classifier, mj.mse, 0.1, steps=1, metrics=metric.logged())
    with jax.numpy_dtype_promotion("standard"):
        state = mj.fit(
            learner, optax.adam(1e-2), ramps, steps=100, tasks=8, steps_per_call=50
        )
        result = mj.evaluate(learner, state.meta, ramps, metric, tasks=100)
    assert result.transductive[0][-1] > 0.9
    assert result.inductive[0][-1] == result.transductive[0][-1]


def test_bad_input_is_refused():
    field, classifier = networks(jnp.float32)
    with pytest.raises(mj.InputError, match="reconstruction must be at least 0"):
        mj.mwt(field, classifier, mj.mse, RATE, reconstruction=-1.0)
    with pytest.raises(mj.InputError, match="model must be a metajax.Model"):
        mj.mwt(field, lambda x: x, mj.mse, RATE)
    with pytest.raises(mj.InputError, match="rate must be a finite number"):
        mj.mwt(field, classifier, mj.mse, float("inf"))
    narrow = mj.mwt(field, mj.mlp(3, (4,), 2), mj.mse, RATE)
    with pytest.raises(mj.InputError, match="built for 3 features an example"):
        narrow.adapt(narrow.init(KEY), signal(jnp.float32).support)
