"""Baselines against plain loops and NumPy, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax._pytrees.keyed import with_keys
from metajax.learners import fine_tuned
from metajax.models import centred, cosine_head, pretrained
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY, gradient, image_episode, relative
from tests.learners.test_table import blobs

RATE, STEPS = 0.1, 3
SGD = optax.sgd(RATE)


@pytest.fixture
def model(float64):
    return mj.mlp(2, (4,), 3, activation=jnp.tanh, dtype=jnp.float64)


def episode_of(shots=2):
    """Points of three classes, class by class."""
    episode = jax.tree.map(lambda x: x[0], blobs(KEY, 1, shots, ways=3))
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.ndim == 2 else x, episode)


def linear_outputs(head, x):
    return x @ head["kernel"] + head["bias"][None]


def cosine_outputs(head, x):
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    v = head["kernel"] / jnp.linalg.norm(head["kernel"], axis=0)[None]
    return 2.0 * (x @ v) * head["length"][None]


def plain_baseline(body, start, outputs):
    """The queries' loss after a Python loop of the head's steps, by (meta, episode)."""

    def loss(head, features, targets):
        return mj.cross_entropy(outputs(head, features), targets)

    def features(meta, batch):
        return body.apply(meta, batch.inputs)

    def adapted(meta, support):
        head = start
        for _ in range(STEPS):
            slopes = jax.grad(loss)(head, features(meta, support), support.targets)
            head = jax.tree.map(lambda p, g: p - RATE * g, head, slopes)
        return head

    def outer(meta, episode):
        support, query = episode
        head = adapted(meta, support)
        return loss(head, features(meta, query), query.targets)

    return adapted, outer


@pytest.mark.parametrize(
    "factory, outputs",
    [(mj.baseline, linear_outputs), (mj.baseline_plus_plus, cosine_outputs)],
)
def test_a_head_is_fine_tuned_as_by_a_plain_loop(model, factory, outputs):
    body, head = model.parts
    plus_plus = factory is mj.baseline_plus_plus
    head = cosine_head(4, 3, dtype=jnp.float64) if plus_plus else head
    learner, episode = factory(model, mj.cross_entropy, SGD, STEPS), episode_of()
    meta, start = learner.init(KEY), head.init(jax.random.key(0))
    adapted, outer = plain_baseline(body, start, outputs)
    ours = jax.jit(learner.adapt)(meta, episode.support)
    assert relative(ours["head"], jax.jit(adapted)(meta, episode.support)) < 1e-12
    assert relative(ours["body"], meta) == 0
    slopes = jax.jit(gradient(learner))(meta, episode)
    assert relative(slopes, jax.jit(jax.grad(outer))(meta, episode)) < 1e-10


def test_a_head_starts_afresh(model):
    learner = mj.baseline(model, mj.cross_entropy, SGD, 0)
    support = episode_of().support
    one, other = (
        learner.adapt(learner.init(jax.random.key(i)), support) for i in range(2)
    )
    assert (
        relative(one["head"], other["head"]) == 0 < relative(one["body"], other["body"])
    )


def test_cosines_are_bounded_by_the_lengths():
    head = cosine_head(3, 2, scale=4.0)
    params = head.init(KEY)
    lengths = jnp.linalg.norm(params["kernel"], axis=0)
    np.testing.assert_allclose(params["length"], lengths)
    np.testing.assert_allclose(
        head.apply(params, 7.0 * params["kernel"].T).diagonal(), 4 * lengths, rtol=1e-6
    )
    many = cosine_head(3, 201).init(KEY), jnp.ones((1, 3))
    fewer = cosine_head(3, 201, scale=2.0).apply(*many)
    np.testing.assert_allclose(cosine_head(3, 201).apply(*many), 5 * fewer, rtol=1e-6)
    with pytest.raises(mj.InputError, match="built for 3 features"):
        head.apply(params, jnp.ones((1, 4)))


def test_a_classifier_is_trained_under_cosines():
    _, head = mj.conv4(3, 4, image_shape=(16, 16, 1), head="cosine").parts
    assert relative(head.init(KEY), cosine_head(4, 3).init(KEY)) == 0


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def means(x, labels):
    return np.stack([x[labels == k].mean(0) for k in range(3)])


def features(body, params, batch):
    return np.asarray(body.apply(params, batch.inputs)), np.asarray(batch.targets)


def test_meta_baseline_in_numpy(model):
    body, _ = model.parts
    learner = mj.meta_baseline(body, 3, scale=7.0)
    meta, (support, query) = learner.init(KEY), episode_of()
    (x, labels), (z, _) = (features(body, meta["body"], b) for b in (support, query))
    expected = 7.0 * unit(z) @ unit(means(x, labels)).T
    adapted = learner.adapt(meta, support)
    ours = learner.predict(adapted, query.inputs)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def plain_meta_baseline(body):
    def outer(meta, episode):
        params = body.settle(meta["body"], episode.support.inputs)
        (x, _), (z, truth) = (
            (body.apply(params, b.inputs).reshape(len(b.targets), -1), b.targets)
            for b in episode
        )
        centres = x.reshape(3, -1, x.shape[1]).mean(1)
        length = jnp.linalg.norm(centres, axis=1)[None]
        cosines = z @ centres.T / jnp.linalg.norm(z, axis=1)[:, None] / length
        return mj.cross_entropy(meta["scale"] * cosines, truth)

    return outer


def test_meta_baselines_gradient_is_that_of_the_formula(model):
    body, _ = model.parts
    learner, episode = mj.meta_baseline(body, 3), episode_of()
    meta = learner.init(KEY)
    plain = jax.grad(plain_meta_baseline(body))(meta, episode)
    assert relative(jax.jit(gradient(learner))(meta, episode), plain) < 1e-10


def test_a_class_without_examples_is_not_predicted(model):
    body, _ = model.parts
    for factory in (mj.meta_baseline, mj.simple_shot):
        learner, (support, query) = factory(body, 4), episode_of()
        adapted = learner.adapt(learner.init(KEY), support)
        outputs = learner.predict(adapted, query.inputs)
        assert float(jnp.max(jax.nn.softmax(outputs)[:, 3])) == 0


@pytest.mark.parametrize("centre", ["training", "support"])
def test_simple_shot_in_numpy(model, centre):
    body, _ = model.parts
    given = jnp.linspace(0.1, 0.4, 4) if centre == "training" else None
    learner = mj.simple_shot(body, 3, mean=given)
    meta, (support, query) = learner.init(KEY), episode_of()
    weights = meta["body"]["body"]
    (x, labels), (z, _) = (features(body, weights, b) for b in (support, query))
    mean = x.mean(0) if given is None else np.asarray(given)
    x, z = unit(x - mean), unit(z - mean)
    distances = ((z[:, None] - means(x, labels)[None]) ** 2).sum(2)
    adapted = learner.adapt(meta, support)
    ours = learner.predict(adapted, query.inputs)
    np.testing.assert_allclose(1 - ours, distances, rtol=1e-10)


def shifted(key, episode):
    """The queries with a little noise; the support set as no one should see it."""
    support, query = episode
    noise = 0.3 * jax.random.normal(key, query.inputs.shape, query.inputs.dtype)
    nothing = support._replace(inputs=jnp.full_like(support.inputs, jnp.nan))
    return Episode(nothing, query._replace(inputs=query.inputs + noise))


def plain_pmf(body):
    """The body after a Python loop, by (meta, support)."""
    loss = plain_meta_baseline(body)

    def adapted(meta, support, steps=STEPS):
        for k in range(steps):
            key = jax.random.fold_in(jax.random.key(0), k)
            copy = shifted(key, Episode(support, support)).query
            slopes = jax.grad(loss)(meta, Episode(support, copy))
            step = jax.tree.map(lambda p, g: p - RATE * g, meta["body"], slopes["body"])
            meta = {**meta, "body": step}
        return meta

    return adapted


def test_pmf_is_fine_tuned_as_by_a_plain_loop(model):
    body, _ = model.parts
    learner = mj.pmf(model, mj.cross_entropy, SGD, STEPS, augment=shifted)
    base, (support, query) = mj.meta_baseline(body, 3), episode_of()
    meta, plain = learner.init(KEY), plain_pmf(body)

    def by_loop(meta):
        outputs = base.predict(base.adapt(plain(meta, support), support), query.inputs)
        return mj.cross_entropy(outputs, query.targets)

    def ours(meta):
        outputs = learner.predict(learner.adapt(meta, support), query.inputs)
        return mj.cross_entropy(outputs, query.targets)

    value, slopes = jax.jit(jax.value_and_grad(ours))(meta)
    expected, plain_slopes = jax.jit(jax.value_and_grad(by_loop))(meta)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert relative(slopes, plain_slopes) < 1e-10
    steps = jax.eval_shape(learner.trajectory, meta, support)["scale"].shape[0]
    assert steps == STEPS + 1


def test_pmf_is_meta_trained_as_meta_baseline(model):
    learner = mj.pmf(model, mj.cross_entropy, SGD, STEPS, augment=shifted)
    base, episode = mj.meta_baseline(model.parts[0], 3), episode_of()
    meta = learner.init(KEY)
    ours, theirs = (jax.jit(gradient(x))(meta, episode) for x in (learner, base))
    assert relative(ours, theirs) == 0


def test_any_learner_is_fine_tuned(model):
    """Padding that pads nothing, and a part of the copies, with another learner."""
    body, _ = model.parts
    base, support = mj.prototypical(body, 3), episode_of().support
    present = jnp.ones(len(support.targets), bool)
    padded = Batch(*(Padded(x, present) for x in support))
    whole, part = (
        fine_tuned(base, SGD, 2, augment=shifted, view=view)
        for view in (mj.mini_batches(6), mj.mini_batches(2))
    )
    meta = base.init(KEY)
    one, same, other = (
        jax.jit(learner.adapt)(meta, batch)["body"]
        for learner, batch in ((whole, support), (whole, padded), (part, support))
    )
    assert relative(same, one) < 1e-12 < relative(other, one)
    none = fine_tuned(base, SGD, 0, augment=shifted).adapt(meta, support)
    assert relative(none, base.adapt(meta, support)) == 0


def test_a_learner_starts_from_a_body_that_was_trained(model):
    body, head = model.parts
    weights = body.init(jax.random.key(7))
    start = pretrained(body, weights)
    for learner, of_body in (
        (mj.baseline(mj.headed(start, head), mj.mse, SGD, 1), lambda meta: meta),
        (mj.meta_baseline(start, 3), lambda meta: meta["body"]),
        (mj.maml(mj.headed(start, head), mj.mse, SGD, 1), lambda meta: meta["body"]),
        (mj.simple_shot(start, 3), lambda meta: meta["body"]["body"]),
    ):
        assert relative(of_body(learner.init(KEY)), weights) == 0
    wider = mj.mlp(2, (5,), 3).init(KEY)["body"]
    with pytest.raises(mj.InputError, match="must have the shapes of the model's"):
        pretrained(body, wider)


def test_a_head_must_be_linear_to_be_replaced(model):
    cosines = mj.headed(model.parts[0], cosine_head(4, 3))
    scaled = partial(mj.baseline_plus_plus, scale=4.0)
    for factory in (scaled, mj.proto_maml):
        with pytest.raises(mj.InputError, match="in place of a linear one"):
            factory(cosines, mj.cross_entropy, SGD, 1)


def test_a_head_of_cosines_is_taken_as_it_is(model):
    body, _ = model.parts
    head = cosine_head(4, 3, scale=7.0, dtype=jnp.float64)
    support, query = episode_of()
    given, replaced = (
        mj.baseline_plus_plus(network, mj.cross_entropy, SGD, 0, **scale)
        for network, scale in ((mj.headed(body, head), {}), (model, {"scale": 7.0}))
    )
    meta = given.init(KEY)
    ours, theirs = (
        learner.predict(learner.adapt(meta, support), query.inputs)
        for learner in (given, replaced)
    )
    assert relative(ours, theirs) == 0


def images_and_model():
    """Images of three classes, and a network that settles on a support set."""
    network = mj.conv4(
        3, 2, image_shape=(16, 16, 1), norm="support", head="glorot", dtype=jnp.float64
    )
    return image_episode(KEY, shots=2, dtype=jnp.float64), network


def test_baseline_predicts_by_the_statistics_of_the_support_set(float64):
    (support, query), network = images_and_model()
    body, head = network.parts
    learner = mj.baseline(network, mj.cross_entropy, SGD, STEPS)
    meta, start = learner.init(KEY), head.init(jax.random.key(0))

    def outputs(weights, x):
        return linear_outputs(weights, x.reshape(len(x), -1))

    adapted, _ = plain_baseline(body, start, outputs)
    weights = jax.jit(adapted)(meta, support)["kernel"]
    ours = jax.jit(learner.adapt)(meta, support)
    assert relative(ours["head"]["kernel"], weights) < 1e-10
    settled = jax.jit(body.settle)(meta, support.inputs)
    features = jax.jit(body.apply)(settled, query.inputs[:1])
    assert relative(ours["body"], settled) < 1e-12
    expected = outputs(ours["head"], features)
    predicted = jax.jit(learner.predict)(ours, query.inputs)
    np.testing.assert_allclose(predicted[:1], expected)


def test_pmf_settles_on_the_support_set(float64):
    (support, query), network = images_and_model()
    body, _ = network.parts
    learner = mj.pmf(network, mj.cross_entropy, SGD, 2, augment=shifted)
    meta = learner.init(KEY)
    tuned = jax.jit(partial(plain_pmf(body), steps=2))(meta, support)
    settled = jax.jit(body.settle)(tuned["body"], support.inputs)
    ours = jax.jit(learner.adapt)(meta, support)
    assert relative(ours["body"], settled) < 1e-10
    predict = jax.jit(learner.predict)
    outputs, first = predict(ours, query.inputs), predict(ours, query.inputs[:1])
    np.testing.assert_allclose(first, outputs[:1])


@pytest.mark.parametrize("augment", [mj.data.mixup(1.0, 3), mj.data.shuffle_labels(3)])
def test_an_augmentation_that_changes_the_targets_is_refused(model, augment):
    learner = mj.pmf(model, mj.cross_entropy, SGD, 1, augment=augment)
    meta = jax.eval_shape(learner.init, KEY)
    with pytest.raises(mj.InputError, match="augment must change the inputs alone"):
        jax.eval_shape(learner.adapt, meta, episode_of().support)


def test_an_augmentation_may_be_jitted(model):
    learner = mj.pmf(model, mj.cross_entropy, SGD, 1, augment=jax.jit(shifted))
    jax.eval_shape(learner.adapt, learner.init(KEY), episode_of().support)


def test_copies_draw_random_numbers_of_their_own(model):
    """The loss counts the keys that the copies share with the support set."""
    base = mj.meta_baseline(model.parts[0], 3)

    def loss(meta, episode):
        own, copied = (jax.random.key_data(side.inputs.keys) for side in episode)
        return meta * jnp.sum(jnp.all(own == copied, 1).astype(meta.dtype)), {}

    base = base._replace(loss=loss, adapt=lambda meta, support: meta)
    learner = fine_tuned(base, optax.sgd(1.0), 2, augment=shifted)
    support = episode_of().support
    keyed = support._replace(inputs=with_keys(support.inputs, KEY))
    assert float(learner.adapt(jnp.zeros(()), keyed)) == 0
    present = jnp.ones(len(support.targets), bool)
    padded = Batch(*(Padded(x, present) for x in support))
    keyed = padded._replace(inputs=with_keys(padded.inputs, KEY))
    assert float(learner.adapt(jnp.zeros(()), keyed)) == 0


def test_centring_keeps_the_statistics_of_the_support_set(float64):
    body, _ = mj.conv4(
        3, 4, image_shape=(16, 16, 1), norm="support", dtype=jnp.float64
    ).parts
    model, support = centred(body), image_episode(KEY, dtype=jnp.float64).support
    params = model.settle(model.init(KEY), support.inputs)
    np.testing.assert_allclose(
        model.apply(params, support.inputs[:1]), model.apply(params, support.inputs)[:1]
    )
