import jax
import jax.numpy as jnp
import optax
import pytest

import metajax as mj
from metajax.estimate import allocated_bytes, written_bytes

ONE, X = 10 * 4, jnp.zeros(10)


def stacks(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, length=100)[1]


def carries(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=100)[0]


def test_allocated_bytes_sees_into_loops_and_calls():
    assert 100 * ONE <= allocated_bytes(stacks, X) <= 104 * ONE
    assert 2 * ONE <= allocated_bytes(jax.jit(carries), X) <= 4 * ONE


def test_written_bytes_counts_a_loop_as_often_as_it_runs():
    def twice(x):
        return jax.lax.scan(lambda c, _: (carries(c), None), x, length=2)[0]

    assert 100 * ONE <= written_bytes(jax.jit(carries), X) <= 104 * ONE
    assert 200 * ONE <= written_bytes(twice, X) <= 208 * ONE


@pytest.mark.parametrize("settings", [dict(devices=2), dict(tasks_per_chunk=100)])
def test_written_bytes_of_a_meta_step_however_it_is_cut(settings):
    learner = mj.maml(mj.mlp(), mj.mse, optax.sgd(0.01), steps=1)
    key = jax.random.key(0)
    args = learner.init(key), mj.data.sinusoid()(key, 400)
    whole = written_bytes(mj.meta_gradient(learner, tasks_per_chunk=None), *args)
    cut = written_bytes(mj.meta_gradient(learner, **settings), *args)
    assert abs(cut / whole - 1) < 0.1
