"""The named forms of batch norm, and what padding does to them."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import metajax as mj
from metajax import learners
from metajax.models.norms import NORMS, keep_weights
from metajax.ops import max_pool
from metajax.ops.normalisation import batch_moments, pooled_moments
from metajax.types import Batch, Episode, Padded, unpadded
from tests.helpers import KEY, descend, gradient, image_episode, naive_maml, relative

blocks = sys.modules["metajax.models.blocks"]  # the module, not the function
every_norm = pytest.mark.parametrize("norm", NORMS)
SIZE = (6, 6, 1)


def build(norm, ways=3):
    settings = dict(image_shape=SIZE, head="glorot", norm=norm, dtype=jnp.float64)
    return mj.conv4(ways, 3, "stride", **settings)


def maml(norm, ways=3):
    return mj.maml(build(norm, ways), mj.cross_entropy, optax.sgd(0.1), 2)


@pytest.fixture
def episode(float64):
    return image_episode(KEY, shots=2, queries=3, size=6, dtype=jnp.float64)


@pytest.mark.parametrize("norm", ["support", "task"])
def test_queries_are_predicted_alone(episode, norm):
    learner = maml(norm)
    adapted = jax.jit(learner.adapt)(learner.init(KEY), episode.support)
    together = learner.predict(adapted, episode.query.inputs)
    alone = jax.jit(learner.predict)
    apart = jnp.concatenate([alone(adapted, x[None]) for x in episode.query.inputs])
    assert relative(apart, together) < 1e-12


def test_transductive_queries_share_their_statistics(episode):
    learner = maml("transductive")
    adapted = jax.jit(learner.adapt)(learner.init(KEY), episode.support)
    together = learner.predict(adapted, episode.query.inputs)
    alone = learner.predict(adapted, episode.query.inputs[:1])
    assert relative(alone, together[:1]) > 0.01


@pytest.mark.parametrize("norm", ["support", "task"])
def test_the_support_set_sees_its_own_statistics(episode, norm):
    model, inputs = build(norm), episode.support.inputs
    params = model.init(KEY)
    settled = model.settle(params, inputs)
    assert relative(model.apply(settled, inputs), model.apply(params, inputs)) < 1e-12
    # Settled again by others, it is as if it had never seen these.
    again = model.settle(settled, episode.query.inputs)
    fresh = model.settle(params, episode.query.inputs)
    assert relative(again, fresh) < 1e-12


def normed(norm, ways=3):
    """conv4's block without its convolution: quick to compile."""
    by = NORMS[norm]

    def init(key):
        weights = jax.random.normal(key, (SIZE[0] * SIZE[2], 4), jnp.float64)
        return {"kernel": weights, **by.init(4, jnp.float64)}

    def before(params, inputs):
        x, present = unpadded(inputs)
        return x.reshape(len(x), SIZE[1], -1) @ params["kernel"], present

    def apply(params, inputs):
        x, present = before(params, inputs)
        return jnp.tanh(by.apply(params, x, present)).reshape(len(x), -1)

    def settle(params, inputs):
        return by.settle(params, *before(params, inputs))

    settle = mj.types.keep if by.settle is keep_weights else settle
    body = mj.Model(init, apply, settle=settle)
    return mj.headed(body, mj.dense(SIZE[1] * 4, ways, dtype=jnp.float64))


@pytest.mark.parametrize("norm", ["support", "task"])
def test_the_gradient_passes_through_the_statistics(episode, norm):
    """Against a loop in Python that settles by hand."""
    model = normed(norm)
    learner = mj.maml(model, mj.cross_entropy, optax.sgd(0.1), 2)

    def outer(meta, episode):
        params = meta
        for _ in range(2):
            grads = jax.grad(
                lambda p: mj.cross_entropy(
                    model.apply(p, episode.support.inputs), episode.support.targets
                )
            )(params)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        params = model.settle(params, episode.support.inputs)
        outputs = model.apply(params, episode.query.inputs)
        return mj.cross_entropy(outputs, episode.query.targets)

    meta = learner.init(KEY)
    expected = jax.jit(jax.grad(outer))(meta, episode)
    assert relative(jax.jit(gradient(learner))(meta, episode), expected) < 1e-10
    loop = naive_maml(model, mj.cross_entropy, descend(0.1), 2)
    assert relative(expected, jax.jit(jax.grad(loop))(meta, episode)) > 1e-3
    check_grads(jax.jit(lambda m: outer(m, episode)), (meta,), order=1, modes=["rev"])


RATE = learners.step_rates(0.1, 2)
BUILD = {
    "maml": mj.maml,
    "anil": mj.anil,
    "boil": mj.boil,
    "reptile": mj.reptile,
    "proto-maml": mj.proto_maml,
    "imaml": partial(mj.imaml, strength=10.0),
    "meta-sgd": lambda m, f, _, k: mj.meta_sgd(m, f, 0.1, k),
    "maml++": lambda m, f, _, k: mj.maml_plus_plus(m, f, RATE, k),
    "cavia": partial(mj.cavia, context=1, join=lambda x, c: x + c[0]),
}


@pytest.mark.parametrize("name", BUILD)
def test_every_learner_keeps_the_support_sets_statistics(episode, name):
    learner = BUILD[name](normed("support"), mj.cross_entropy, optax.sgd(0.1), 2)
    meta, (support, query) = learner.init(KEY), episode
    visited = jax.jit(learner.trajectory)(meta, support)
    last = jax.tree.map(lambda x: x[-1], visited)
    for adapted in (jax.jit(learner.adapt)(meta, support), last):
        together = learner.predict(adapted, query.inputs)
        assert (
            relative(learner.predict(adapted, query.inputs[:1]), together[:1]) < 1e-12
        )


def test_pooled_moments_are_those_of_the_mixture(float64):
    x = jax.random.normal(KEY, (3, 4, 4, 2), jnp.float64)
    batch, share = batch_moments(x + 1.0), jnp.asarray(0.3)
    mean, variance = pooled_moments(x, batch, share)
    for i in range(3):
        own = np.asarray(x[i]).reshape(-1, 2)
        m, s = own.mean(0), (own**2).mean(0)
        b = np.asarray(batch.mean[0, 0, 0])
        second = np.asarray(batch.variance[0, 0, 0]) + b**2
        centre = 0.3 * b + 0.7 * m
        np.testing.assert_allclose(mean[i, 0, 0], centre)
        spread = 0.3 * second + 0.7 * s - centre**2
        np.testing.assert_allclose(variance[i, 0, 0], spread, rtol=1e-10)


def pad(batch, n, outputs):
    """`n` more examples, of a class of their own that the episode lacks."""
    examples = len(batch.targets)
    present = jnp.arange(examples + n) < examples
    inputs = jnp.concatenate([batch.inputs, jnp.ones((n, *SIZE))])
    labels = jnp.concatenate([batch.targets, jnp.full(n, 4, jnp.int32)])
    allowed = jnp.broadcast_to(jnp.arange(outputs)[None] < 3, (len(labels), outputs))
    return Batch(Padded(inputs, present), Padded(labels, present, allowed))


@every_norm
def test_padding_changes_nothing(episode, norm):
    exact, wide = (
        mj.maml(normed(norm, ways), mj.cross_entropy, optax.sgd(0.1), 2)
        for ways in (3, 5)
    )
    meta = exact.init(KEY)
    head = {
        "kernel": jnp.pad(meta["head"]["kernel"], ((0, 0), (0, 2)), constant_values=9),
        "bias": jnp.pad(meta["head"]["bias"], (0, 2)),
    }
    padded = Episode(pad(episode.support, 4, 5), pad(episode.query, 5, 5))
    expected = jax.jit(gradient(exact))(meta, episode)
    found = jax.jit(gradient(wide))({"body": meta["body"], "head": head}, padded)
    assert relative(found["body"], expected["body"]) < 1e-12
    kernel = found["head"]["kernel"]
    assert relative(kernel[:, :3], expected["head"]["kernel"]) < 1e-12
    np.testing.assert_array_equal(kernel[:, 3:], 0)


def test_refuses_an_unknown_norm():
    with pytest.raises(mj.InputError, match='"transductive", "support", "task"'):
        mj.conv4(5, norm="running")


@every_norm
def test_pooling_before_normalising_changes_nothing(float64, norm):
    """With scales of both signs, settled and not, to the second derivative."""
    by = NORMS[norm]
    x, more = jax.random.normal(KEY, (2, 4, 6, 6, 2), jnp.float64)
    weights = by.init(3, jnp.float64)
    weights["kernel"] = jax.random.normal(KEY, (3, 3, 2, 3), jnp.float64)
    weights["scale"] = jnp.array([1.5, -0.5, -2.0])

    def normalised_first(by, weights, x, present, settle):
        x, weights = blocks._layer(by, weights, x, present, settle)
        return max_pool(x), weights

    def values(layer):
        def loss(weights, x):
            y, settled = layer(by, weights, x, None, by.settle)
            z, _ = layer(by, settled, more, None, keep_weights)
            return jnp.sum(jnp.sin(y)) + jnp.sum(z**2)

        gradient = jax.grad(loss, (0, 1))
        norm_of = lambda w, x: optax.tree.norm(gradient(w, x), squared=True)  # noqa: E731
        return gradient(weights, x), jax.grad(norm_of)(weights, x)

    assert relative(values(blocks._pooled_layer), values(normalised_first)) < 1e-11
