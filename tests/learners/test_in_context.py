from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import metajax as mj
from metajax.types import Batch
from tests.helpers import KEY, relative, sine_episode

MODEL = mj.transformer(3, 1, width=8, depth=1, heads=2, dtype=jnp.float64)
LEARNER = mj.in_context(MODEL, mj.mse)


@jax.jit
def predicted(meta, support, inputs):
    return LEARNER.predict(LEARNER.adapt(meta, support), inputs)


@pytest.fixture
def meta(float64):
    """Parameters drawn without a program, large enough for attention to choose."""
    draw = np.random.default_rng(0).normal
    shapes = jax.eval_shape(LEARNER.init, KEY)
    return jax.tree.map(lambda x: jnp.array(draw(size=x.shape)), shapes)


@pytest.fixture
def episode(float64):
    return sine_episode(KEY, jnp.float64)


def test_reads_the_support_set_and_the_query(meta, episode):
    support, x = episode.support, episode.query.inputs
    tokens = [
        [*((*a, *b, 0.0) for a, b in zip(*map(np.asarray, support))), (*q, 0.0, 1.0)]
        for q in np.asarray(x)
    ]
    expected = jax.jit(MODEL.apply)(meta, jnp.array(tokens))
    np.testing.assert_allclose(predicted(meta, support, x), expected, rtol=1e-12)


def test_the_support_set_is_a_set(meta, episode):
    x = episode.query.inputs
    plain = predicted(meta, episode.support, x)
    turned = jax.tree.map(lambda leaf: leaf[::-1], episode.support)
    assert relative(predicted(meta, turned, x), plain) < 1e-12
    # Which target belongs to which input does matter.
    crossed = turned._replace(targets=episode.support.targets)
    assert relative(predicted(meta, crossed, x), plain) > 1e-3


def test_queries_do_not_see_one_another(meta, episode):
    x = episode.query.inputs
    plain = predicted(meta, episode.support, x)
    others = predicted(meta, episode.support, x.at[1:].add(1.0))
    np.testing.assert_array_equal(others[0], plain[0])
    assert relative(others[1:], plain[1:]) > 1e-3


def test_labels_are_encoded():
    batch = Batch(jnp.ones((3, 2)), jnp.array([0, 2, 1], jnp.int32))
    with pytest.raises(mj.InputError, match="labels .int32. must be written"):
        LEARNER.adapt({}, batch)
    one_hot = partial(jax.nn.one_hot, num_classes=4)
    learner = mj.in_context(MODEL, mj.cross_entropy, encode=one_hot)
    pairs = learner.adapt({}, batch).pairs
    np.testing.assert_array_equal(pairs[1], [1, 1, 0, 0, 1, 0, 0])


def test_a_body_embeds_examples(float64):
    body = mj.mlp(2, (1,), 1, activation=jnp.tanh, dtype=jnp.float64).parts[0]
    learner = mj.in_context(MODEL, mj.mse, body=body)
    meta = learner.init(KEY)
    support, queries = (jax.random.normal(KEY, (n, 2), jnp.float64) for n in (5, 3))
    targets = jnp.sin(support[:, :1])
    adapted = learner.adapt(meta, Batch(support, targets))
    embed = partial(body.apply, meta["body"])
    expected = predicted(meta["model"], Batch(embed(support), targets), embed(queries))
    ours = learner.predict(adapted, queries)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    with pytest.raises(mj.InputError, match="from_linen"):
        mj.in_context(MODEL, mj.mse, body=nn.Dense(1))
