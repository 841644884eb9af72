"""One table of learners; every property runs over it."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import metajax as mj
from tests.helpers import KEY, compilations, gradient, relative, sine_episode

MODEL, SGD = mj.mlp(hidden=(8, 8)), optax.sgd(0.01)


def build(factory, model=MODEL, steps=2, inner=SGD):
    return factory(model, mj.mse, inner, steps, metrics={"mse": mj.mse})


def maml_plus_plus(model, loss, rate, steps, **settings):
    inner = mj.learners.step_rates(rate, max(1, steps))
    return mj.maml_plus_plus(model, loss, inner, steps, **settings)


def cavia(model, *args, **settings):
    """The context in place of the input's one feature: `model` stays what it is."""
    join = lambda x, context: x + context[None]  # noqa: E731
    return mj.cavia(model, *args, context=1, join=join, **settings)


def recurrent(rule, model, loss, inner, steps, **settings):
    return mj.learned_maml(model, loss, rule, steps, **settings)


LEARNERS = {
    "maml": partial(build, mj.maml),
    "maml-reverse": partial(build, partial(mj.maml, grad=mj.reverse)),
    "fomaml": partial(build, mj.fomaml),
    "anil": partial(build, mj.anil),
    "boil": partial(build, mj.boil),
    "meta-sgd": partial(build, mj.meta_sgd, inner=0.01),
    "meta-lstm": partial(build, partial(recurrent, mj.learners.meta_lstm(0.01))),
    "learned-optimizer": partial(
        build, partial(recurrent, mj.learners.learned_optimizer())
    ),
    "maml++": partial(build, maml_plus_plus, inner=0.01),
    "imaml": partial(build, partial(mj.imaml, strength=10.0)),
    "cavia": partial(build, cavia),
    "reptile": partial(build, partial(mj.reptile, view=mj.mini_batches(2))),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)
EPISODES = mj.data.sinusoid(5, 5)


@every_learner
def test_protocol(name):
    learner = LEARNERS[name]()
    meta, episode = learner.init(KEY), sine_episode(KEY)
    adapted = learner.adapt(meta, episode.support)
    outputs = learner.predict(adapted, episode.query.inputs)
    value, metrics = learner.loss(meta, episode)
    assert outputs.shape == episode.query.targets.shape
    assert value.shape == () and metrics["mse"].shape == ()
    assert jax.tree.structure(gradient(learner)(meta, episode)) == jax.tree.structure(
        meta
    )


@every_learner
def test_a_module_is_no_model(name):
    with pytest.raises(mj.InputError, match="from_linen"):
        LEARNERS[name](nn.Dense(1))


@every_learner
def test_predict_is_consistent_with_loss(name):
    learner = LEARNERS[name]()
    meta, episode = learner.init(KEY), sine_episode(KEY)
    adapted = learner.adapt(meta, episode.support)
    outputs = learner.predict(adapted, episode.query.inputs)
    value, metrics = learner.loss(meta, episode)
    np.testing.assert_allclose(metrics["mse"], mj.mse(outputs, episode.query.targets))
    np.testing.assert_allclose(metrics["mse"], value)


@every_learner
def test_trajectory_ends_in_adapt(name):
    learner = LEARNERS[name]()
    meta, support = learner.init(KEY), sine_episode(KEY).support
    last = jax.tree.map(lambda x: x[-1], learner.trajectory(meta, support))
    assert relative(last, learner.adapt(meta, support)) < 1e-6


@every_learner
def test_jit_and_vmap_change_nothing(name):
    learner = LEARNERS[name]()
    meta, batch = learner.init(KEY), EPISODES(KEY, 3)
    both = jax.jit(jax.vmap(gradient(learner), (None, 0)))(meta, batch)
    for i in range(3):
        episode = jax.tree.map(lambda x: x[i], batch)
        one = gradient(learner)(meta, episode)
        assert relative(jax.tree.map(lambda x: x[i], both), one) < 1e-5


@every_learner
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_keeps_the_dtype(name, dtype):
    with jax.enable_x64(True):
        learner = LEARNERS[name](mj.mlp(hidden=(8,), dtype=dtype))
        meta, episode = learner.init(KEY), sine_episode(KEY, dtype)
        value, metrics = learner.loss(meta, episode)
        leaves = jax.tree.leaves((gradient(learner)(meta, episode), value, metrics))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


@every_learner
def test_computes_in_bfloat16(name):
    model = mj.mlp(hidden=(8,), activation=jnp.tanh)
    episode, meta = sine_episode(KEY), LEARNERS[name](model).init(KEY)
    single, half = (
        gradient(LEARNERS[name](m))(meta, episode)
        for m in (model, mj.in_precision(model, "bfloat16"))
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    assert 1e-4 < relative(half, single) < 0.05


@every_learner
def test_no_steps_learn_nothing_of_the_support_set(name):
    learner = LEARNERS[name](steps=0)
    meta, episode = learner.init(KEY), sine_episode(KEY)
    other = episode._replace(support=sine_episode(jax.random.key(1)).support)
    np.testing.assert_array_equal(
        learner.loss(meta, episode)[0], learner.loss(meta, other)[0]
    )


@every_learner
def test_two_devices_change_nothing(name):
    learner = LEARNERS[name]()
    optimizer = optax.sgd(0.1)
    step = jax.jit(mj.train_step(learner, optimizer))
    state, batch = mj.init_state(learner, optimizer, KEY), EPISODES(KEY, 4)
    alone, _ = step(state, batch)
    mesh = Mesh(jax.devices(), "task")
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("task")))
    replicated = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    together, _ = step(replicated, sharded)
    assert len(jax.devices()) == 2
    assert relative(together.meta, alone.meta) < 1e-6


@every_learner
def test_the_second_step_compiles_nothing(name):
    learner = LEARNERS[name]()
    optimizer = optax.sgd(0.1)
    step = jax.jit(mj.train_step(learner, optimizer), donate_argnums=0)
    state, first = mj.init_state(learner, optimizer, KEY), EPISODES(KEY, 2)
    second = EPISODES(jax.random.key(1), 2)
    with compilations() as before:
        state, _ = step(state, first)
    assert before
    with compilations() as after:
        step(state, second)
    assert not after


@every_learner
def test_chunks_change_nothing(name):
    learner = LEARNERS[name]()
    state, batch = mj.init_state(learner, optax.sgd(0.1), KEY), EPISODES(KEY, 6)
    whole, metrics = mj.train_step(learner, optax.sgd(0.1))(state, batch)
    for chunk in (1, 2, 6):
        step = mj.train_step(learner, optax.sgd(0.1), tasks_per_chunk=chunk)
        ours, values = step(state, batch)
        assert relative(ours.meta, whole.meta) < 1e-6
        np.testing.assert_allclose(values["mse"], metrics["mse"], rtol=1e-6)
