"""The running average of the meta-parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metajax as mj
from tests.helpers import KEY, relative


def test_the_average_is_its_formula_and_changes_no_update(float64):
    plain = optax.sgd(0.1, momentum=0.9)
    kept = optax.chain(plain, mj.parameter_average(0.5))
    params = other = average = jnp.array([1.0, -2.0])
    state, other_state = kept.init(params), plain.init(other)
    for t in range(1, 30):
        updates, state = kept.update(jnp.sin(params), state, params)
        params = optax.apply_updates(params, updates)
        updates, other_state = plain.update(jnp.sin(other), other_state, other)
        other = optax.apply_updates(other, updates)
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * params
    np.testing.assert_array_equal(params, other)
    np.testing.assert_allclose(state[-1].average, average, rtol=1e-12)


def test_training_keeps_it_and_evaluation_finds_it():
    learner = mj.maml(mj.mlp(hidden=(4,)), mj.mse, optax.sgd(0.01), 1)
    optimizer = optax.chain(optax.sgd(0.01), mj.parameter_average(0.9))
    waves = mj.data.sinusoid(3, 3)
    state = mj.fit(learner, optimizer, waves, steps=3, tasks=2)
    average = mj.averaged(state)
    assert jax.tree.structure(average) == jax.tree.structure(state.meta)
    assert relative(average, state.meta) > 0
    without = mj.init_state(learner, optax.sgd(0.01), KEY)
    assert mj.averaged(without) is without.meta


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_refuses_a_decay_out_of_range(decay):
    with pytest.raises(mj.InputError, match="decay must be at least 0 and below 1"):
        mj.parameter_average(decay)
