"""Implicit MAML of losses that close over what is traced, and of losses it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from tests.helpers import KEY, relative

MODEL = mj.mlp(hidden=(4,))
MODEL64 = mj.mlp(hidden=(4,), dtype=jnp.float64)


def meta_loss(meta, task):
    episode, rate, weight, label = task

    def loss(outputs, targets):
        return jnp.where(label > 0, weight, 1.0) * mj.mse(outputs, targets)

    learner = mj.imaml(MODEL64, loss, optax.sgd(rate), steps=3, strength=2.0)
    return learner.loss(meta, episode)[0]


def test_closures_are_differentiated_under_any_transformation(relaxed, float64):
    meta, count = MODEL64.init(KEY), 2
    weights = jnp.array([1.0, 2.0])
    rest = (jnp.full(count, 0.01), weights, jnp.arange(count))
    tasks = (mj.data.sinusoid()(KEY, count), *rest)

    def mean(meta, tasks):
        return jnp.mean(jax.vmap(meta_loss, (None, 0))(meta, tasks))

    def of_weights(weights):
        changed = (*tasks[:2], weights, tasks[3])
        return jax.lax.map(lambda task: jax.grad(meta_loss)(meta, task), changed)

    alone = [jax.tree.map(lambda x: x[i], tasks) for i in range(count)]
    slopes = jax.jit(jax.grad(meta_loss))
    apart = [jax.grad(meta_loss)(meta, alone[0]), slopes(meta, alone[1])]
    assert relative(slopes(meta, alone[0]), apart[0]) < 1e-9
    expected = jax.tree.map(lambda *x: sum(x) / count, *apart)
    assert relative(jax.jit(jax.grad(mean))(meta, tasks), expected) < 1e-9
    mapped = jax.tree.map(lambda x: x.mean(0), jax.jit(of_weights)(weights))
    assert relative(mapped, expected) < 1e-9
    of_mean = jax.grad(lambda w: mean(meta, (*tasks[:2], w, tasks[3])))
    by_weight = jax.jit(of_mean)(weights)
    assert by_weight[0] == 0 and abs(by_weight[1]) > 1e-3


def test_it_refuses_a_hessian_that_may_not_be_symmetric():
    held = jax.custom_vjp(jnp.floor)
    held.defvjp(lambda x: (jnp.floor(x), None), lambda _, g: (g,))
    loss = lambda outputs, targets: mj.mse(held(outputs), targets)  # noqa: E731
    learner = mj.imaml(MODEL, loss, optax.sgd(0.01), steps=1, strength=2.0)
    support = jax.tree.map(lambda x: x[0], mj.data.sinusoid()(KEY, 1)).support
    with pytest.raises(mj.InputError, match="imaml needs .* custom_vjp_call of floor"):
        learner.adapt(MODEL.init(KEY), support)
    maml = mj.maml(MODEL, loss, optax.sgd(0.01), steps=1)
    with pytest.raises(mj.InputError, match="spectrum needs .* floor"):
        mj.study.spectrum(maml, MODEL.init(KEY), mj.data.sinusoid()(KEY, 2), loss)
    assert np.isfinite(maml.adapt(MODEL.init(KEY), support)["head"]["bias"]).all()
