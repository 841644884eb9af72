"""Learners that compare queries with the support set, against loops in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax import learners
from metajax.learners.matching import log_attention
from metajax.learners.support import support_features
from metajax.models import comparator
from metajax.types import Batch, Episode, Padded
from tests.helpers import KEY, image_episode, lstm_by_hand, squash

WAYS, FEATURES = 3, 6


@pytest.fixture
def body(float64):
    return mj.mlp(2, (FEATURES,), 1, activation=jnp.tanh, dtype=jnp.float64).parts[0]


@pytest.fixture
def episode(float64):
    keys, labels = jax.random.split(KEY), jnp.array([0, 1, 1, 2, 2, 2], jnp.int32)
    support = Batch(jax.random.normal(keys[0], (6, 2), jnp.float64), labels)
    query = Batch(jax.random.normal(keys[1], (4, 2), jnp.float64), jnp.arange(4) % WAYS)
    return Episode(support, query)


def outputs(learner, meta, episode):
    adapted = learner.adapt(meta, episode.support)
    return np.asarray(learner.predict(adapted, episode.query.inputs))


def features(body, meta, episode):
    return (np.asarray(body.apply(meta["body"], side.inputs)) for side in episode)


def cosines(a, b):
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    return a @ b.T / norms


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def test_attention_sums_to_one_and_passes_over_padding(float64):
    keys, labels = jax.random.split(KEY), jnp.array([0, 1, 2, 0])
    present = jnp.array([True, True, False, True])
    x = jax.random.normal(keys[0], (4, 5), jnp.float64)
    examples = support_features(x, Padded(labels, present), WAYS)
    weights = log_attention(
        jax.random.normal(keys[1], (7, 5), jnp.float64), examples, 1.0
    )
    weights = jnp.exp(weights)
    np.testing.assert_allclose(jnp.sum(weights, 1), 1, rtol=1e-12)
    assert not np.any(weights[:, 2]) and np.all(weights[:, :2] > 0)


def test_padding_may_have_any_label(float64):
    x, labels = jnp.ones((3, 2)), jnp.array([1, -1, 7])
    first = jnp.array([True, False, False])
    members = support_features(x, Padded(labels, first), 2).members
    np.testing.assert_array_equal(members, [[0, 1], [0, 0], [0, 0]])
    unknown = jax.jit(lambda labels: support_features(x, labels, 2).members)(labels)
    assert np.isnan(unknown[1:]).all()
    with pytest.raises(mj.InputError, match=r"labels must lie in 0\.\.1"):
        support_features(x, labels, 2)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_matching(body, episode, scale):
    learner = mj.matching(body, WAYS, scale=scale)
    meta = learner.init(KEY)
    support, query = features(body, meta, episode)
    y = np.eye(WAYS)[np.asarray(episode.support.targets)]
    chances = softmax(scale * cosines(query, support)) @ y
    np.testing.assert_allclose(
        outputs(learner, meta, episode), np.log(chances), rtol=1e-9
    )


def test_a_large_scale_leaves_a_gradient(body, episode):
    wrong = episode._replace(
        query=episode.support._replace(targets=(episode.support.targets + 1) % WAYS)
    )
    learner = mj.matching(body, WAYS, scale=1e4)
    meta = learner.init(KEY)
    value, grads = jax.value_and_grad(lambda m: learner.loss(m, wrong)[0])(meta)
    assert np.isfinite(value)
    assert max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(grads)) > 1


def test_full_context(body, episode):
    steps, context = 3, learners.full_context(FEATURES, 3)
    learner = mj.matching(body, WAYS, context=context, scale=1.0)
    meta = learner.init(KEY)
    weights = jax.tree.map(np.asarray, meta["context"])
    support, query = features(body, meta, episode)
    nothing = np.zeros(FEATURES)

    def read(w, rows):
        h, c, found = nothing, nothing, []
        for row in rows:
            h, c = lstm_by_hand(w, row, h, c)
            found.append(h)
        return np.stack(found)

    backward = read(weights["backward"], support[::-1])[::-1]
    g = support + read(weights["forward"], support) + backward
    h = c = np.zeros_like(query)
    for _ in range(steps):
        seen = np.concatenate([query, softmax(h @ g.T) @ g], 1)
        after = [lstm_by_hand(weights["read"], *row) for row in zip(seen, h, c)]
        h, c = (np.stack(x) for x in zip(*after))
        h = h + query
    y = np.eye(WAYS)[np.asarray(episode.support.targets)]
    np.testing.assert_allclose(
        outputs(learner, meta, episode), np.log(softmax(cosines(h, g)) @ y), rtol=1e-9
    )


def test_relation(body, episode):
    compare = mj.mlp(2 * FEATURES, (4,), 1, dtype=jnp.float64)
    learner = mj.relation(body, compare, WAYS)
    meta = learner.init(KEY)
    support, query = features(body, meta, episode)
    labels = np.asarray(episode.support.targets)
    scores = np.zeros((4, WAYS))
    for i in range(4):
        for k in range(WAYS):
            pair = np.concatenate([support[labels == k].mean(0), query[i]])[None]
            scores[i, k] = compare.apply(meta["comparator"], pair)[0, 0]
    np.testing.assert_allclose(outputs(learner, meta, episode), scores, rtol=1e-9)
    wanted = np.eye(WAYS)[np.asarray(episode.query.targets)]
    np.testing.assert_allclose(
        learner.loss(meta, episode)[0], np.mean((squash(scores) - wanted) ** 2)
    )


def test_siamese(body, episode):
    learner = mj.siamese(body, mj.dense(FEATURES, 1, dtype=jnp.float64), WAYS)
    meta = learner.init(KEY)
    weights = jax.tree.map(np.asarray, meta["comparator"])
    support, query = features(body, meta, episode)
    labels = np.asarray(episode.support.targets)
    apart = np.abs(query[:, None] - support[None])
    pairs = (apart @ weights["kernel"] + weights["bias"])[:, :, 0]
    logits = np.stack([pairs[:, labels == k].mean(1) for k in range(WAYS)], 1)
    np.testing.assert_allclose(outputs(learner, meta, episode), logits, rtol=1e-9)
    chances, y = squash(logits), np.eye(WAYS)[np.asarray(episode.query.targets)]
    alike, apart = y * np.log(chances), (1 - y) * np.log(1 - chances) / (WAYS - 1)
    np.testing.assert_allclose(
        learner.loss(meta, episode)[0], -np.mean((alike + apart).sum(1)) / 2
    )


def test_verification_is_the_siamese_pair(body, episode):
    compare = mj.dense(FEATURES, 1, dtype=jnp.float64)
    learner = mj.siamese(body, compare, 6)
    meta, x = learner.init(KEY), episode.support.inputs
    apart = learner.adapt(meta, Batch(x, jnp.arange(6)))  # a class each
    logits = learner.predict(apart, x)
    chances = learners.verification(body, compare)(meta, x, x[::-1])
    expected = [squash(logits[i, 5 - i]) for i in range(6)]
    np.testing.assert_allclose(chances, expected, rtol=1e-9)


def test_a_relation_network_of_images(float64):
    """Its comparator's batch norm passes over padding, as the body's does."""
    body = mj.conv4(3, 4, image_shape=(16, 16, 1), halvings=2, dtype=jnp.float64)
    compare = comparator((4, 4, 8), filters=4, dtype=jnp.float64)
    learner = mj.relation(body.parts[0], compare, WAYS)
    meta, episode = learner.init(KEY), image_episode(KEY, dtype=jnp.float64)
    present = jnp.arange(8) < 6
    more = jnp.concatenate([episode.query.inputs, jnp.ones((2, 16, 16, 1))])
    labels = jnp.pad(episode.query.targets, (0, 2))
    query = Batch(Padded(more, present), Padded(labels, present))
    wide = episode._replace(query=query)
    plain, padded = (jax.jit(learner.loss)(meta, e)[0] for e in (episode, wide))
    np.testing.assert_allclose(padded, plain, rtol=1e-10)


@pytest.mark.parametrize("norm", ["support", "task"])
def test_a_relation_network_settles_on_the_support_set(float64, norm):
    body = mj.conv4(
        3, 4, image_shape=(16, 16, 1), halvings=2, norm=norm, dtype=jnp.float64
    )
    compare = comparator((4, 4, 8), filters=4, norm=norm, dtype=jnp.float64)
    learner = mj.relation(body.parts[0], compare, WAYS)
    support, query = image_episode(KEY, dtype=jnp.float64)
    adapted = learner.adapt(learner.init(KEY), support)
    together = jax.jit(learner.predict)(adapted, query.inputs)
    alone = jax.jit(learner.predict)(adapted, query.inputs[:1])
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-9)


def test_a_class_without_examples_is_never_chosen(body, episode):
    compare = mj.mlp(2 * FEATURES, (4,), 1, dtype=jnp.float64)
    layer = mj.dense(FEATURES, 1, dtype=jnp.float64)
    for build in (
        lambda ways: mj.relation(body, compare, ways),
        lambda ways: mj.siamese(body, layer, ways),
    ):
        meta = build(WAYS).init(KEY)
        wide, plain = (outputs(build(n), meta, episode) for n in (WAYS + 2, WAYS))
        np.testing.assert_allclose(wide[:, :WAYS], plain, rtol=1e-9)
        assert np.all(wide[:, WAYS:] < -1e30)


@pytest.mark.parametrize("loss", [mj.score_mse, mj.pair_cross_entropy])
def test_an_unknown_label_is_no_number(loss):
    labels = jnp.array([0, 7])
    assert np.isnan(jax.jit(loss)(jnp.zeros((2, 5)), labels))
    with pytest.raises(mj.InputError, match=r"labels must lie in 0\.\.4"):
        loss(jnp.zeros((2, 5)), labels)


def test_a_comparator_has_one_output(body, episode):
    learner = mj.relation(body, mj.mlp(2 * FEATURES, (4,), 2, dtype=jnp.float64), WAYS)
    with pytest.raises(mj.InputError, match="one output each, got shape"):
        learner.loss(learner.init(KEY), episode)


def test_full_context_is_of_the_bodys_features(body, episode):
    context = learners.full_context(FEATURES + 1)
    learner = mj.matching(body, WAYS, context=context)
    with pytest.raises(mj.InputError, match="built for 7 features, and the body has 6"):
        learner.loss(learner.init(KEY), episode)


@pytest.mark.parametrize("factory", [mj.relation, mj.siamese])
def test_a_comparator_is_a_model(body, factory):
    with pytest.raises(mj.InputError, match="model must be a metajax.Model"):
        factory(body, lambda x: x, 5)


@pytest.mark.parametrize("sizes", [(0,), (4, 0)])
def test_context_refuses(sizes):
    with pytest.raises(mj.InputError, match="must be a whole number of at least 1"):
        learners.full_context(*sizes)
