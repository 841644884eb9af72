"""A state over the devices trains as one that each of them has."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import metajax as mj
from metajax.training.parallel import layout
from metajax.training.sharding import ShardedStep, init_sharded, state_sharding
from tests.helpers import KEY, lenient, relative

LEARNER = mj.maml(mj.mlp(hidden=(8, 6)), mj.mse, optax.sgd(0.01), 2)
ADAM = lenient(optax.chain(optax.clip_by_global_norm(0.1), optax.adam(1e-2)))
EPISODES = mj.data.sinusoid(5, 5)
SETTINGS = dict(steps=6, tasks=3, steps_per_call=3, devices=2)


def parts(tree):
    """The shapes of what the first device has."""
    return [x.addressable_shards[0].data.shape for x in jax.tree.leaves(tree)]


def test_a_fit_is_the_same_and_each_device_has_half(tmp_path):
    replicated = mj.fit(LEARNER, ADAM, EPISODES, **SETTINGS)
    saved = SETTINGS | dict(checkpoints=mj.Checkpoints(tmp_path), checkpoint_every=3)
    states = [
        mj.fit(LEARNER, ADAM, EPISODES, shard="state", **saved | {"steps": steps})
        for steps in (3, 6)
    ]
    whole = mj.fit(LEARNER, ADAM, EPISODES, shard="state", **SETTINGS)
    assert relative(whole.meta, replicated.meta) < 1e-5
    for ours, other in zip(jax.tree.leaves(states[1]), jax.tree.leaves(whole)):
        np.testing.assert_array_equal(ours, other)
    for state in (*states, whole):
        sizes = [np.prod(shape) for shape in parts(state)]
        halves = [x.size // 2 if x.size > 1 else 1 for x in jax.tree.leaves(state)]
        assert sizes == halves


def test_another_meta_step_is_sharded_too():
    repeated = SETTINGS | dict(make_step=mj.repeated_step(2))
    states = [
        mj.fit(LEARNER, ADAM, EPISODES, shard=shard, **repeated)
        for shard in (None, "state")
    ]
    assert relative(states[1].meta, states[0].meta) < 1e-5
    assert parts(states[1].meta) != parts(states[0].meta)


def test_no_device_is_given_the_whole_gradient():
    step = ShardedStep()(LEARNER, ADAM, devices=2)
    state = jax.eval_shape(lambda: mj.init_state(LEARNER, ADAM, KEY))
    places = state_sharding(state, 2)
    state = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        state,
        places,
    )
    tasks = jax.eval_shape(lambda: EPISODES(KEY, 3))
    program = jax.jit(step, donate_argnums=0).lower(state, tasks).compile()
    text = program.as_text()
    arrays = [x for x in jax.tree.leaves(state.meta) if x.size > 1]
    assert len(re.findall(r" reduce-scatter\(", text)) == len(arrays)
    assert program.output_shardings[0].meta == places.meta


def test_the_start_is_the_same():
    ours = init_sharded(LEARNER, ADAM, KEY, 2)
    assert relative(ours.meta, mj.init_state(LEARNER, ADAM, KEY).meta) < 1e-6


def test_an_axis_that_cannot_be_divided_is_kept_whole():
    tree = {"odd": jnp.zeros((3, 5)), "even": jnp.zeros((4, 3, 8))}
    assert layout(tree, 2) == {"odd": P(), "even": P(None, None, "task")}


def test_refuses_another_name():
    with pytest.raises(mj.InputError, match='shard must be one of "state"'):
        mj.fit(LEARNER, ADAM, EPISODES, shard="all", **SETTINGS)  # pyright: ignore
