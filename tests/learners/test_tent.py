"""Adapting to unlabelled queries: against a loop, and never beyond what is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from metajax.evaluation import per_query
from metajax.learners import prediction_entropy, tent
from metajax.types import Batch, Learner, Model, Padded, unpadded
from tests.helpers import KEY

RATE, STEPS = 0.3, 3


def normed(inputs):
    """A network of one layer of batch norm, by the statistics of what is present."""
    x, present = unpadded(inputs)
    share = jnp.ones(len(x), x.dtype) if present is None else present.astype(x.dtype)
    share = (share / jnp.sum(share))[:, None]
    mean = jnp.sum(share * x, 0, keepdims=True)
    return (x - mean) / jnp.sqrt(jnp.sum(share * (x - mean) ** 2, 0, keepdims=True))


def apply(params, inputs):
    x = normed(inputs) * params["scale"][None] + params["offset"][None]
    return x @ params["kernel"]


def init(key):
    kernel = jax.random.normal(key, (4, 3))
    return {"scale": jnp.ones(4), "offset": jnp.zeros(4), "kernel": kernel}


@pytest.fixture
def learner(float64):
    return mj.maml(Model(init, apply), mj.cross_entropy, optax.sgd(0.1), 1)


@pytest.fixture
def task(float64):
    inputs = jax.random.normal(KEY, (9, 4))
    return Batch(inputs[:3], jnp.arange(3)), inputs[3:]


def looped(params, inputs):
    """Tent as its equations say."""
    part = {name: params[name] for name in ("scale", "offset")}

    def entropy(part):
        p = jax.nn.softmax(apply(params | part, inputs))
        return -jnp.mean(jnp.sum(p * jnp.log(p), 1))

    for _ in range(STEPS):
        gradient = jax.grad(entropy)(part)
        part = jax.tree.map(lambda x, g: x - RATE * g, part, gradient)
    return apply(params | part, inputs)


def test_equals_its_loop(learner, task):
    support, queries = task
    adapted = learner.adapt(learner.init(KEY), support)
    outputs = tent(learner, optax.sgd(RATE), STEPS).predict(adapted, queries)
    np.testing.assert_allclose(outputs, looped(adapted, queries), rtol=1e-12)
    before = learner.predict(adapted, queries)
    assert prediction_entropy(outputs) < prediction_entropy(before)
    none = tent(learner, optax.sgd(RATE), 0).predict(adapted, queries)
    np.testing.assert_array_equal(none, before)


def test_queries_that_are_padding_have_no_part(learner, task):
    support, queries = task
    adapted = learner.adapt(learner.init(KEY), support)
    present = jnp.arange(6) < 4
    alone = tent(learner, optax.sgd(RATE), STEPS)
    outputs = alone.predict(adapted, Padded(queries, present))
    kept = alone.predict(adapted, queries[:4])
    np.testing.assert_allclose(outputs[:4], kept, rtol=1e-10)


def test_a_query_predicted_independently_sees_no_other(learner, task):
    support, queries = task
    alone = per_query(tent(learner, optax.sgd(RATE), STEPS))
    adapted = alone.adapt(learner.init(KEY), support)
    whole = alone.predict(adapted, queries)
    np.testing.assert_allclose(alone.predict(adapted, queries[:2]), whole[:2])
    beside = jnp.concatenate([support.inputs, queries[:1]])
    np.testing.assert_allclose(
        whole[0], looped(adapted["adapted"], beside)[-1], rtol=1e-10
    )


def test_bad_input(learner, task):
    support, queries = task
    with pytest.raises(mj.InputError, match="steps must be a whole number of at least"):
        tent(learner, optax.sgd(RATE), -1)
    plain = mj.prototypical(mj.mlp(4, (2,), 2, dtype=jnp.float64), ways=3)
    adapted = plain.adapt(plain.init(KEY), support)
    with pytest.raises(mj.InputError, match="has none among .* other .adapts.$"):
        tent(plain, optax.sgd(RATE), 1).predict(adapted, queries)
    padded = Padded(support.targets, jnp.ones(3, bool), jnp.ones((3, 3), bool))
    for name in ("adapt", "trajectory"):
        teach = getattr(tent(learner, optax.sgd(RATE), 1), name)
        with pytest.raises(mj.InputError, match="give tasks of as many ways as outp"):
            teach(learner.init(KEY), support._replace(targets=padded))
    single: Learner = learner._replace(
        predict=lambda adapted, x: apply(adapted, x)[:, :1]
    )
    adapted = learner.adapt(learner.init(KEY), support)
    with pytest.raises(mj.InputError, match=r"of two classes or more, got \(6, 1\)"):
        tent(single, optax.sgd(RATE), 1).predict(adapted, queries)
